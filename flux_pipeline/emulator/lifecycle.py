"""The life of a prediction: planned when it is created, and computed from the clock afterwards.

Nothing runs in the background: a status is a function of the plan and the time. So the state
survives a restart, and a test moves the clock instead of waiting.
"""

import math
import secrets
from dataclasses import dataclass, field
from typing import Literal

from flux_pipeline.emulator import chance
from flux_pipeline.emulator.inputs import ModelInput, drawn_seed
from flux_pipeline.emulator.jobs import Job
from flux_pipeline.emulator.options import EmulatorOptions

End = Literal["succeeded", "failed", "canceled", "aborted", "stuck"]
_QUEUED_SHARE = 0.2
"""Share of a warm prediction's time that it spends in ``starting``."""


@dataclass(frozen=True)
class Plan:
    """The planned course of one prediction, if nobody cancels it; times in s since the epoch."""

    starts_at: float
    ends_at: float
    seed: int
    """The seed that the pictures are drawn from, sent or drawn."""
    end: End = "succeeded"
    error: str | None = None
    refused: tuple[int, ...] = ()
    """Batch numbers left out by the safety checker."""
    null_reads: float = 0
    """How many reads after the end show no output yet; infinite for one that never has any."""
    late_seconds: float = 0.0
    """The output shows this long after the end."""
    served_version: str = ""
    """Another version than the one asked for, or empty."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A prediction as it is at one time."""

    status: str
    started_at: float | None = None
    completed_at: float | None = None
    error: str | None = None
    outputs: tuple[int, ...] | None = None
    """Batch numbers that have a file, or None where ``output`` is null."""
    removed: bool = False
    """Input, output and files have vanished."""


@dataclass(frozen=True, slots=True)
class Interruption:
    """Times at which a prediction is stopped from outside, s since the epoch."""

    canceled_at: float | None = None
    """Cancelled by a call: ``canceled``, even while it is starting."""
    deadline_at: float | None = None
    """``Cancel-After``: ``aborted`` if it hasn't started by then, else ``canceled``."""


@dataclass(frozen=True, slots=True)
class Life:
    """One prediction's plan, and its interruptions and reads since."""

    plan: Plan
    images: int
    interruption: Interruption = field(default_factory=Interruption)
    reads: int = 0
    """How often it was read after its end, before this time."""
    expired: bool = False

    def at(self, now: float, retention_seconds: float) -> Moment:
        """The prediction as it is at ``now``."""
        end, completed_at = self._ending()
        if now < completed_at:
            started = now >= self.plan.starts_at and end not in ("aborted", "stuck")
            if not started:
                return Moment("starting")
            return Moment("processing", started_at=self.plan.starts_at)
        started_at = self.plan.starts_at if self.plan.starts_at <= completed_at else None
        return Moment(
            status=end,
            started_at=None if end == "aborted" else started_at,
            completed_at=completed_at,
            error=self.plan.error if end == "failed" else None,
            outputs=self._outputs(now - completed_at) if end == "succeeded" else None,
            removed=self.expired or now >= completed_at + retention_seconds,
        )

    def _ending(self) -> tuple[End, float]:
        """How it ends and when, with the earliest interruption counted in."""
        plan, interruption = self.plan, self.interruption
        end, at = plan.end, math.inf if plan.end == "stuck" else plan.ends_at
        if interruption.deadline_at is not None and interruption.deadline_at < at:
            at = interruption.deadline_at
            end = "aborted" if at < plan.starts_at or plan.end == "stuck" else "canceled"
        if interruption.canceled_at is not None and interruption.canceled_at < at:
            end, at = "canceled", interruption.canceled_at
        return end, at

    def _outputs(self, since_end: float) -> tuple[int, ...] | None:
        if self.reads < self.plan.null_reads or since_end < self.plan.late_seconds:
            return None
        return tuple(index for index in range(self.images) if index not in self.plan.refused)


def plan_for(
    options: EmulatorOptions, typed: ModelInput | Job, input_sha: str, ordinal: int, now: float
) -> Plan:
    """Plan the ``ordinal``-th prediction of an input, accepted at ``now``, without any fault."""
    timing = Timing.drawn(options, now, input_sha, ordinal)
    seed = typed.seed
    if isinstance(typed, Job) and not typed.has_seed:
        seed = secrets.randbits(62)  # such a model never makes the same picture again
    elif seed is None:
        seed = drawn_seed(options.seed, input_sha, ordinal)
    return Plan(starts_at=timing.starts_at, ends_at=timing.ends_at, seed=seed)


@dataclass(frozen=True, slots=True)
class Timing:
    """When one prediction starts and ends, s since the epoch."""

    starts_at: float
    ends_at: float

    @classmethod
    def drawn(cls, options: EmulatorOptions, created_at: float, *identity: object) -> "Timing":
        """The timing that these options give to this identity: the same in every run."""
        noise = options.latency_spread * chance.normal(options.seed, "latency", *identity)
        latency = options.latency_median * math.exp(noise)
        queued = latency * _QUEUED_SHARE
        if chance.uniform(options.seed, "cold", *identity) < options.cold_start_rate:
            shortest, longest = options.cold_start_seconds
            share = chance.uniform(options.seed, "cold seconds", *identity)
            queued += shortest + share * (longest - shortest)
        running = latency * (1 - _QUEUED_SHARE)
        starts_at = created_at + queued * options.time_scale
        return cls(starts_at, starts_at + running * options.time_scale)
