"""The plan of faults: which calls, outcomes and downloads go wrong, the same in every run.

A decision depends on the plan's seed, the phase, the identity (of the input, the prediction or the
file) and how often that identity was asked for before, never on order or time. ``cap`` ends every
series of faults, so that a client that tries again gets through.

The faults of ``lasting`` depend on time alone: every call meets them until so many seconds have
passed on the emulator's clock, however often it is tried.
"""

import math
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from flux_pipeline.emulator import chance
from flux_pipeline.emulator.lifecycle import End, Plan
from flux_pipeline.emulator.records import first_create, tally

Phase = Literal["create", "outcome", "poll", "list", "cancel", "download", "upload", "input"]

CreateFault = Literal[
    # nothing is created
    "reset_before",
    "hang_before",
    "server_error_before",
    "html_before",
    "unauthorized",
    "payment_required",
    "error_object",
    "throttled_header",
    "throttled_date",
    "throttled_body",
    "throttled_detail",
    "throttled_reset",
    "throttled_none",
    "throttled_huge",
    # created and charged, and the reply doesn't say so
    "reset_after",
    "hang_after",
    "server_error_after",
    "timeout_after",
    "html_after",
    "truncated_after",
    "cut_after",
    "empty_after",
    "garbage_after",
    "no_id_after",
    # created, and the reply is unusual but true
    "other_version",
    "data_uri",
]
OutcomeFault = Literal[
    "stuck",
    "aborted",
    "canceled",
    "failed_pa",
    "failed_e9828",
    "failed_e6716",
    "failed_e8765",
    "failed_e9243",
    "failed_e1001",
    "failed_null",
    "failed_nsfw",
    "failed_permanent",
    "failed_memory",
    "failed_exitcode",
    "failed_unknown",
    "failed_weights",
    "images_refused",
    "null_output_once",
    "null_output",
    "late_output",
]
CallFault = Literal[
    "reset",
    "hang",
    "server_error",
    "html",
    "truncated",
    "cut",
    "empty",
    "garbage",
    "not_found",
    "unauthorized",
    "payment_required",
    "throttled_header",
    "throttled_body",
    "throttled_detail",
    "throttled_reset",
    "throttled_none",
]
DownloadFault = Literal[
    "reset",
    "hang",
    "not_found",
    "forbidden",
    "server_error",
    "slow",
    "cut_with_length",
    "cut_without_length",
    "cut_chunked",
    "half_file",
    "trailing_bytes",
    "empty",
    "wrong_type",
    "wrong_format",
    "html",
    "gzip_bomb",
    "pixel_bomb",
    "endless",
    "wrong_size",
    "blank",
    "redirect_private",
    "redirect_other_host",
    "expired",
]
UploadFault = Literal[
    # nothing is stored
    "reset_before",
    "server_error_before",
    "html_before",
    "unauthorized",
    "refused",
    "too_large",
    "throttled_header",
    # stored, and the reply doesn't say so, or says it late
    "reset_after",
    "hang_after",
    "server_error_after",
    "truncated_after",
    "garbage_after",
    "slow",
]
InputFault = Literal["expired", "not_found", "reset", "server_error"]
LastingFault = Literal[
    # since the first create that was received
    "creates_400",
    "creates_404",
    "creates_405",
    "creates_413",
    "creates_415",
    "weights_missing",
    # since the prediction's create
    "polls_404",
    # since the prediction's end
    "downloads_404",
    "downloads_403",
    "outputs_elsewhere",
]
_PHASES: tuple[Phase, ...] = get_args(Phase)
Rate = Annotated[float, Field(ge=0, le=1)]
_FOR_GOOD = frozenset({"failed_nsfw", "failed_permanent", "images_refused"})
"""Outcomes that belong to the input: the same input meets them again."""
_NEVER_TWICE = frozenset({"not_found", "forbidden"})
"""Faults that don't follow another one: clients give up at the second."""
_NSFW = "NSFW content detected. Try running it again, or try a different prompt."
ERROR_MESSAGES: dict[str, str | None] = {
    "failed_pa": "Prediction interrupted; please retry (code: PA)",
    "failed_e9828": "Director: unexpected error handling prediction (E9828)",
    "failed_e6716": "Failed to start: model setup timed out (E6716)",
    "failed_e8765": "Prediction failed on a worker that went away (E8765)",
    "failed_e9243": "Director: health check failed (E9243)",
    "failed_e1001": "Prediction failed: out of memory on a shared worker (E1001)",
    "failed_null": None,
    "failed_nsfw": _NSFW,
    "failed_permanent": "Cannot load LoRA weights: the file has no tensors of this model.",
    "failed_memory": "CUDA out of memory. Tried to allocate 2.25 GiB (GPU 0; 79.15 GiB total)",
    "failed_exitcode": "Prediction failed: the worker ended with exitcode -9",
    "failed_unknown": "unknown reason",
    "failed_weights": "Failed to download weights: 404 Client Error: Not Found for the LoRA's URL",
}
"""The ``error`` of a failed prediction, by the fault's name."""
_NO_INPUT = "Failed to download input {name}: 404 Client Error: Not Found for url: {url}"
INPUT_MESSAGES: Mapping[InputFault, str] = {
    "expired": _NO_INPUT,
    "not_found": _NO_INPUT,
    "reset": "Failed to download input {name}: Connection reset by peer for url: {url}",
    "server_error": "Failed to download input {name}: 503 Server Error for url: {url}",
}
"""The ``error`` of a prediction whose input could not be fetched, by the fault's name."""
LASTING_BY_PHASE: Mapping[str, tuple[LastingFault, ...]] = {
    "create": ("creates_400", "creates_404", "creates_405", "creates_413", "creates_415"),
    "outcome": ("weights_missing",),
    "poll": ("polls_404",),
    "download": ("downloads_404", "downloads_403"),
    "output": ("outputs_elsewhere",),
}
_ENDS: dict[str, End] = {"stuck": "stuck", "aborted": "aborted", "canceled": "canceled"}


class FaultPlan(BaseModel):
    """Rates by fault, phase by phase; the rates of one phase add up to at most 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    cap: int = Field(default=2, ge=1, description="Faults in a row that one identity can meet.")
    only_prompts: str = Field(
        default="", description="Only predictions whose prompt contains this are hit; empty: all."
    )
    create: dict[CreateFault, Rate] = Field(default_factory=dict)
    outcome: dict[OutcomeFault, Rate] = Field(default_factory=dict)
    poll: dict[CallFault, Rate] = Field(default_factory=dict)
    list: dict[CallFault, Rate] = Field(default_factory=dict)
    cancel: dict[CallFault, Rate] = Field(default_factory=dict)
    download: dict[DownloadFault, Rate] = Field(default_factory=dict)
    upload: dict[UploadFault, Rate] = Field(default_factory=dict)
    input: dict[InputFault, Rate] = Field(default_factory=dict)
    lasting: dict[LastingFault, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict, description="Seconds for which every call meets the fault."
    )
    other_origin: str = Field(
        default="https://outputs.invalid", description="outputs_elsewhere: origin of output URLs."
    )

    unauthorized_after: int | None = Field(
        default=None, ge=0, description="401 to every call once this many creates were received."
    )
    payment_required_after: int | None = Field(
        default=None, ge=0, description="402 to every create after this many received ones."
    )
    hint_seconds: float = Field(default=1, ge=0, description="What a throttled_* fault asks for.")
    late_seconds: float = Field(default=2, ge=0, description="late_output: after the end, s.")
    hang_seconds: float = Field(default=600, gt=0, description="Then a hanging call is reset, s.")
    slow_bytes_per_second: int = Field(default=20_000, gt=0)

    @model_validator(mode="after")
    def _rates_add_up(self) -> Self:
        for phase in _PHASES:
            if sum(self.rates(phase).values()) > 1 + 1e-9:
                raise ValueError(f"the rates of {phase} add up to more than 1")
        return self

    def rates(self, phase: Phase) -> Mapping[str, float]:
        """Fault to rate, in one phase."""
        rates: Mapping[str, float] = getattr(self, phase)
        return rates

    def concerns(self, prompt: str) -> bool:
        """Whether a prediction of this prompt can meet a fault."""
        return self.only_prompts in prompt

    def drawn(self, phase: Phase, identity: str, times: int, hits: int) -> str | None:
        """Draw the fault of a call; None for a call without one.

        ``times`` counts the identity's earlier calls, ``hits`` the faults right before this one.
        """
        rates = self.rates(phase)
        if phase == "outcome":
            lasting = {name: rate for name, rate in rates.items() if name in _FOR_GOOD}
            fault = _pick(lasting, chance.uniform(self.seed, phase, identity, "for good"))
            if fault is not None:
                return fault
            rates = {name: rate for name, rate in rates.items() if name not in _FOR_GOOD}
        if hits >= self.cap:
            return None
        fault = _pick(rates, chance.uniform(self.seed, phase, identity, times))
        return None if hits and fault in _NEVER_TWICE else fault


def load_fault_plan(path: Path) -> FaultPlan:
    """The plan in a YAML file; an empty file is a plan without faults.

    Raises:
        ValueError: Where the file is no YAML or names an unknown fault, phase or setting.
    """
    try:
        return FaultPlan.model_validate(yaml.safe_load(path.read_text("utf-8")) or {})
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML: {error}") from error


def draw_fault(
    connection: sqlite3.Connection, plan: FaultPlan, phase: Phase, identity: str
) -> str | None:
    """Draw the fault of one more call of an identity, and remember it; None without a fault."""
    if not plan.rates(phase):
        return None
    row = connection.execute(
        "INSERT INTO asked VALUES (?, ?, 1, 0)"
        " ON CONFLICT DO UPDATE SET times = times + 1 RETURNING times, hits",
        (phase, identity),
    ).fetchone()
    fault = plan.drawn(phase, identity, row["times"] - 1, row["hits"])
    connection.execute(
        "UPDATE asked SET hits = ? WHERE phase = ? AND identity = ?",
        (0 if fault is None else row["hits"] + 1, phase, identity),
    )
    if fault is not None:
        tally(connection, "fault", f"{phase}.{fault}")
    return fault


def find_lasting(
    connection: sqlite3.Connection, plan: FaultPlan, phase: str, *, now: float, since: float | None
) -> LastingFault | None:
    """The lasting fault of a phase that is still on, or None.

    Its seconds begin at ``since``; None stands for the first create that was received.
    """
    lasting = {name: plan.lasting[name] for name in LASTING_BY_PHASE[phase] if name in plan.lasting}
    if not lasting:
        return None
    begun = first_create(connection, now) if since is None else since
    for name, seconds in lasting.items():
        if now < begun + seconds:
            tally(connection, "fault", f"lasting.{name}")
            return name
    return None


def spoil_plan(plan: Plan, outcome: str, faults: FaultPlan, input_sha: str, images: int) -> Plan:
    """Change the plan of a prediction to one with this faulty outcome."""
    if outcome in ERROR_MESSAGES:
        return replace(plan, end="failed", error=ERROR_MESSAGES[outcome])
    match outcome:
        case "images_refused":
            return _refuse_images(plan, images, faults.seed, input_sha)
        case "null_output_once":
            return replace(plan, null_reads=1)
        case "null_output":
            return replace(plan, null_reads=math.inf)
        case "late_output":
            return replace(plan, late_seconds=faults.late_seconds)
        case _:
            return replace(plan, end=_ENDS[outcome])


def _refuse_images(plan: Plan, images: int, seed: int, input_sha: str) -> Plan:
    """Leave some images out; where there is only one, the model reports a failure."""
    if images == 1:
        return replace(plan, end="failed", error=_NSFW)
    left_out = 1 + chance.number(seed, "how many", input_sha) % (images - 1)
    order = sorted(range(images), key=lambda index: chance.number(seed, input_sha, index))
    return replace(plan, refused=tuple(sorted(order[:left_out])))


def _pick(rates: Mapping[str, float], drawn: float) -> str | None:
    reached = 0.0
    for name, rate in rates.items():
        reached += rate
        if drawn < reached:
            return name
    return None
