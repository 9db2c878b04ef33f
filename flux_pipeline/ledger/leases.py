"""How long a claim stands: leases, the clocks that measure them, and lock files that show deaths.

On one host a claim's age is measured on the host's steady clock (``time.monotonic``), which all its
processes share and which no change of the wall clock moves: if the wall clock leapt an hour
forward, a second worker would otherwise take over an intent whose holder is about to send it. The
holder measures its own time on the same clock, from before it asked for the claim, so that it
always gives up earlier than others may take over.

- A holder whose lock file is free is dead and loses its claims at once: it can't send any more.
  The kernel frees the lock when the process ends, however it ends. A missing file proves nothing
  (somebody may have tidied up): then the lease decides.
- A holder that is stopped keeps its lock, but being alive never prolongs a lease. It finds its own
  time over when it wakes.
- After a reboot the steady clock starts anew. The locks are free by then, so this concerns only a
  claim whose lock file is gone: its age is the wall clock's, and must exceed the lease by more than
  two jumps of an hour.

A server's clock (Postgres) is a wall clock. It is read in one place for all workers, so their own
clocks don't matter, but a jump of the server's clock does.

The age of an attempt is another matter: it says whether the provider's list still shows the create.
It is measured by ``elapsed_since_boot``, because the provider's clock goes on while a machine is
suspended.
"""

import contextlib
import fcntl
import os
import time
import uuid
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flux_pipeline.errors import LedgerError

Clock = Callable[[], float]
UNREADABLE_CLOCK_SECONDS = 2 * 3600.0
"""Added to the lease of a claim whose steady clock can't be compared with ours."""
_KEEP_SECONDS = 7 * 86400.0
"""Free lock files stay this long, as the proof for claims that their dead processes left open."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One reading of the ledger's clock."""

    wall: float
    """Unix seconds."""
    steady: float | None = None
    """Seconds on the host's steady clock; None where a server's clock is the only one."""
    boot: str = ""
    """Which steady clock that is: comparable only with readings of the same one."""

    def seconds_since(self, earlier: "Moment") -> float | None:
        """Seconds on the steady clock since an earlier reading of the same one; else None."""
        if self.steady is None or earlier.steady is None:
            return None
        is_same = bool(self.boot) and self.boot == earlier.boot and earlier.steady <= self.steady
        return self.steady - earlier.steady if is_same else None


@dataclass(frozen=True, slots=True)
class Stamp:
    """When, and by which process, a claim was made."""

    made: Moment
    lease_seconds: float
    """As the claimer had it set: workers may be configured differently."""
    lock_file: str
    """The name of the claimer's lock file, empty where there is none."""


def remaining(stamp: Stamp, now: Moment, *, is_dead: Callable[[str], bool]) -> float:
    """Return the seconds for which a claim still stands; at 0 or below it may be taken over."""
    if stamp.lock_file and is_dead(stamp.lock_file):
        return 0.0
    made = stamp.made
    if now.steady is None or made.steady is None:
        return stamp.lease_seconds - (now.wall - made.wall)
    if made.boot == now.boot and made.steady <= now.steady:
        return stamp.lease_seconds - (now.steady - made.steady)
    return stamp.lease_seconds + UNREADABLE_CLOCK_SECONDS - (now.wall - made.wall)


def elapsed_since_boot() -> float:
    """Return the seconds since this host's boot, those in which it was suspended included."""
    # Elsewhere than on Linux the monotonic clock itself goes on while the machine sleeps.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(frozen=True, slots=True)
class HostClock:
    """This host's clocks."""

    wall: Clock = time.time
    steady: Clock = time.monotonic
    boot: str = ""
    elapsed: Clock = elapsed_since_boot

    def read(self) -> Moment:
        """Return the time now, for leases."""
        return Moment(self.wall(), self.steady(), self.boot)

    def read_elapsed(self) -> Moment:
        """Return the time now, for ages: its steady clock goes on while the host is suspended."""
        return Moment(self.wall(), self.elapsed(), self.boot)


def current_boot() -> str:
    """Return an id of this host's steady clock since its last boot; empty where none can be read.

    The time namespace is a part of it: a container may have a steady clock of its own.
    """
    parts = []
    for path in (Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/time")):
        try:
            parts.append(str(path.readlink()) if path.is_symlink() else path.read_text().strip())
        except OSError:
            parts.append("")
    return " ".join(parts).strip()


class LockFile:
    """This process's lock file in ``folder``: it proves to others that the process lives, or died.

    The trap: a process that releases it gives up its claims, so only after its last send.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: int | None = None
        self.name = ""

    def take(self) -> str:
        """Hold the lock from now on and return the file's name; does nothing the second time.

        Raises:
            LedgerError: Where the lock file can't be made.
        """
        if self._file is None:
            name = uuid.uuid4().hex
            try:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._remove_old()
                self._file = _create_locked(self._folder / name)
            except OSError as error:
                raise LedgerError(
                    f"no lock file can be made in {self._folder} ({error.strerror}): let this "
                    "user write there"
                ) from error
            self.name = name
            _HELD.add(self)
        return self.name

    def release(self) -> None:
        """Free the lock: whatever this process still claims may be taken over at once."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
            self.name = ""

    def is_dead(self, name: str) -> bool:
        """Return whether the process behind another lock file is proven to be gone."""
        if name == self.name:
            return False
        try:
            file = os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return _is_free(file)
        finally:
            os.close(file)

    def _remove_old(self) -> None:
        """Remove free lock files that no open claim can need as a proof any more."""
        oldest = time.time() - _KEEP_SECONDS
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process may do the same
                if path.stat().st_mtime < oldest and self.is_dead(path.name):
                    path.unlink()


def _create_locked(path: Path) -> int:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def _is_free(file: int) -> bool:
    try:
        # Shared, so that two who look at the same time don't take each other for the holder.
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


_HELD: weakref.WeakSet[LockFile] = weakref.WeakSet()


def _release_in_child() -> None:
    for lock_file in _HELD:
        lock_file.release()


# A forked child shares the parent's lock: it must not keep it when the parent has died. Closing the
# child's descriptor leaves the parent's lock as it is.
os.register_at_fork(after_in_child=_release_in_child)
