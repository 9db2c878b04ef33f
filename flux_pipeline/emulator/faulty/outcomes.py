"""What a prediction's plan becomes when its outcome is one of the faulty ones."""

import math
from dataclasses import replace

from flux_pipeline.emulator import chance
from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.emulator.inputs import ModelInput, drawn_seed
from flux_pipeline.emulator.lifecycle import End, Plan, Timing
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
    options: EmulatorOptions, typed: ModelInput, input_sha: str, ordinal: int, now: float
) -> Plan:
    """The plan of the ``ordinal``-th prediction of an input, accepted at ``now``: all goes well."""
    timing = Timing.drawn(options, now, input_sha, ordinal)
    drawn = drawn_seed(options.seed, input_sha, ordinal)
    seed = drawn if typed.seed is None else typed.seed
    return Plan(starts_at=timing.starts_at, ends_at=timing.ends_at, seed=seed)


def spoil_plan(plan: Plan, outcome: str, faults: FaultPlan, input_sha: str, images: int) -> Plan:
    """The plan with a faulty outcome."""
    if outcome in MESSAGES:
        return replace(plan, end="failed", error=MESSAGES[outcome])
    match outcome:
        case "images_refused":
            return _refusing(plan, images, faults.seed, input_sha)
        case "null_output_once":
            return replace(plan, null_reads=1)
        case "null_output":
            return replace(plan, null_reads=math.inf)
        case "late_output":
            return replace(plan, late_seconds=faults.late_seconds)
        case _:
            return replace(plan, end=_ENDS[outcome])


_ENDS: dict[str, End] = {"stuck": "stuck", "aborted": "aborted", "canceled": "canceled"}


def _refusing(plan: Plan, images: int, seed: int, input_sha: str) -> Plan:
    """Some images left out; a single one leaves nothing, which the model reports as a failure."""
    if images == 1:
        return replace(plan, end="failed", error=NSFW)
    left_out = 1 + chance.number(seed, "how many", input_sha) % (images - 1)
    order = sorted(range(images), key=lambda index: chance.number(seed, input_sha, index))
    return replace(plan, refused=tuple(sorted(order[:left_out])))
