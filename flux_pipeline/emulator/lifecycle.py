"""What becomes of a prediction, decided at its create and read off the clock afterwards.

Nothing runs in the background: a status is a function of the plan and the time, which is why state
survives a restart and a test can move the clock instead of waiting.
"""

import hashlib
import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Literal

from flux_pipeline.emulator.options import EmulatorOptions

End = Literal["succeeded", "failed", "canceled", "aborted", "stuck"]
_QUEUED_SHARE = 0.2
"""Of a warm prediction's time, the part it spends in ``starting``."""
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Plan:
    """What will become of one prediction if nobody cancels it; times in s since the epoch."""

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
    """What a prediction looks like at one time."""

    status: str
    started_at: float | None = None
    completed_at: float | None = None
    error: str | None = None
    outputs: tuple[int, ...] | None = None
    """Batch numbers that have a file, or None where ``output`` is null."""
    removed: bool = False
    """Input, output and files have vanished."""


@dataclass(frozen=True, slots=True)
class Timing:
    """When one prediction starts and ends, s since the epoch."""

    starts_at: float
    ends_at: float

    @classmethod
    def drawn(cls, options: EmulatorOptions, created_at: float, *identity: object) -> "Timing":
        """The timing that these options give to this identity: the same in every run."""
        noise = options.latency_spread * normal(options.seed, "latency", *identity)
        latency = options.latency_median * math.exp(noise)
        queued = latency * _QUEUED_SHARE
        if uniform(options.seed, "cold", *identity) < options.cold_start_rate:
            shortest, longest = options.cold_start_seconds
            share = uniform(options.seed, "cold seconds", *identity)
            queued += shortest + share * (longest - shortest)
        running = latency * (1 - _QUEUED_SHARE)
        starts_at = created_at + queued * options.time_scale
        return cls(starts_at, starts_at + running * options.time_scale)


@dataclass(frozen=True, slots=True)
class Interruption:
    """What stops a prediction from outside, each in s since the epoch."""

    canceled_at: float | None = None
    """Cancelled by a call: ``canceled``, even while it is starting."""
    deadline_at: float | None = None
    """``Cancel-After``: ``aborted`` if it hasn't started by then, else ``canceled``."""


@dataclass(frozen=True, slots=True)
class Life:
    """One prediction's plan and what interfered with it."""

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


def digest(*parts: object) -> bytes:
    """32 bytes that depend on the parts and their order."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode("utf-8", "replace")).digest()


def number(*parts: object) -> int:
    """An integer in [0, 2**64)."""
    return int.from_bytes(digest(*parts)[:8], "big")


def uniform(*parts: object) -> float:
    """A float in [0, 1)."""
    return (number(*parts) >> 11) / 2**53


def normal(*parts: object) -> float:
    """A float of the standard normal distribution, never infinite."""
    return _NORMAL.inv_cdf(min(max(uniform(*parts), 1e-9), 1 - 1e-9))
