"""What a prediction's plan becomes when its outcome is one of the faulty ones."""

import math
from dataclasses import replace

from flux_pipeline.emulator import chance
from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.emulator.inputs import ModelInput, drawn_seed
from flux_pipeline.emulator.lifecycle import Plan, Timing
from flux_pipeline.emulator.options import EmulatorOptions

NSFW = "NSFW content detected. Try running it again, or try a different prompt."

MESSAGES: dict[str, str | None] = {
    "failed_pa": "Prediction interrupted; please retry (code: PA)",
    "failed_e9828": "Director: unexpected error handling prediction (E9828)",
    "failed_e6716": "Failed to start: model setup timed out (E6716)",
    "failed_e8765": "Prediction failed on a worker that went away (E8765)",
    "failed_e9243": "Director: health check failed (E9243)",
    "failed_e1001": "Prediction failed: out of memory on a shared worker (E1001)",
    "failed_null": None,
    "failed_nsfw": NSFW,
    "failed_permanent": "Cannot load LoRA weights: the file has no tensors of this model.",
}
"""What ``error`` says under status ``failed``, by the fault's name."""


def plan_for(
    options: EmulatorOptions,
    faults: FaultPlan,
    typed: ModelInput,
    identity: str,
    now: float,
    outcome: str | None,
) -> Plan:
    """The plan of a prediction accepted at ``now``, with its outcome if that is a faulty one."""
    timing = Timing.drawn(options, now, identity)
    seed = drawn_seed(options.seed, identity) if typed.seed is None else typed.seed
    plan = Plan(starts_at=timing.starts_at, ends_at=timing.ends_at, seed=seed)
    match outcome:
        case "stuck":
            return replace(plan, end="stuck")
        case "aborted":
            return replace(plan, end="aborted")
        case "canceled":
            return replace(plan, end="canceled")
        case "null_output_once":
            return replace(plan, null_reads=1)
        case "null_output":
            return replace(plan, null_reads=math.inf)
        case "late_output":
            return replace(plan, late_seconds=faults.late_seconds)
        case "images_refused":
            return _with_refused(plan, typed.num_outputs, faults.seed, identity)
        case str() if outcome in MESSAGES:
            return replace(plan, end="failed", error=MESSAGES[outcome])
        case _:
            return plan


def _with_refused(plan: Plan, images: int, seed: int, identity: str) -> Plan:
    """Some images left out; a single one leaves nothing, which the model reports as a failure."""
    if images == 1:
        return replace(plan, end="failed", error=NSFW)
    input_only = identity.partition("#")[0]
    left_out = 1 + chance.number(seed, "how many", input_only) % (images - 1)
    order = sorted(
        range(images), key=lambda index: chance.number(seed, "refused", input_only, index)
    )
    return replace(plan, refused=tuple(sorted(order[:left_out])))
