"""How long a claim stands: its age on a clock that can't jump, and never beyond a proven death.

On one host a claim's age is measured on the host's steady clock (``time.monotonic``), which is the
same for all its processes and takes no part in jumps of the wall clock: with a wall clock that
leaps an hour forward, a second worker would otherwise take over an intent whose holder is about to
send it. The holder measures its own time on that very clock, from before it asked for the claim,
so that it always gives up earlier than others may take over.

- A holder that is dead (its lock is free, see ``presence``) loses its claims at once: it can't
  send any more.
- A holder that lives but is stopped keeps its lock, so being alive never prolongs a lease. It finds
  its own time over when it wakes.
- After a reboot the steady clock starts anew. Locks are free then, so what counts is the rare claim
  of a host that can't be read: its age is the wall clock's, and it must exceed the lease by more
  than two jumps of an hour.

A server's clock (Postgres) is a wall clock. It is read in one place for all workers, so their own
clocks don't matter, but a jump of the server's clock does.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Clock = Callable[[], float]

UNREADABLE_CLOCK_SECONDS = 2 * 3600.0
"""Added to the lease of a claim whose steady clock can't be compared with ours."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One reading of the ledger's clock."""

    wall: float
    """Unix seconds."""
    steady: float | None = None
    """Seconds on the host's steady clock; None where a server's clock is the only one."""
    boot: str = ""
    """Which steady clock that is: comparable only with readings of the same one."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """When, and by which process, a claim was made."""

    made: Moment
    lease_seconds: float
    """As the claimer had it set: workers may be configured differently."""
    presence: str
    """The claimer's lock file, empty where there is none."""


def remaining(stamp: Stamp, now: Moment, *, is_dead: Callable[[str], bool]) -> float:
    """Return the seconds for which a claim still stands; at 0 or below it may be taken over."""
    if stamp.presence and is_dead(stamp.presence):
        return 0.0
    made = stamp.made
    if now.steady is None or made.steady is None:
        return stamp.lease_seconds - (now.wall - made.wall)
    if made.boot == now.boot and made.steady <= now.steady:
        return stamp.lease_seconds - (now.steady - made.steady)
    return stamp.lease_seconds + UNREADABLE_CLOCK_SECONDS - (now.wall - made.wall)


@dataclass(frozen=True, slots=True)
class HostClock:
    """This host's two clocks."""

    wall: Clock = time.time
    steady: Clock = time.monotonic
    boot: str = ""

    def read(self) -> Moment:
        """Return the time now."""
        return Moment(self.wall(), self.steady(), self.boot)


def current_boot() -> str:
    """Return what tells this boot's steady clock from any other's; empty where nothing does."""
    parts = []
    for path in (Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/time")):
        try:
            parts.append(str(path.readlink()) if path.is_symlink() else path.read_text().strip())
        except OSError:
            parts.append("")
    return " ".join(parts).strip()
