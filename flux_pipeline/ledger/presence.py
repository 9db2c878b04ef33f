"""A lock file for each open ledger, so that others see at once that its process is dead.

The kernel frees the lock when the process ends, however it ends, and keeps it while the process is
stopped. A free lock is therefore proof of death; a missing file proves nothing (somebody may have
tidied up), and then the lease decides.
"""

import contextlib
import fcntl
import os
import time
import uuid
import weakref
from pathlib import Path

from flux_pipeline.errors import LedgerError

_KEEP_SECONDS = 7 * 86400.0
"""Free lock files stay this long, as the proof for claims that their dead processes left open."""


class Presence:
    """One lock file of this process in ``folder``; taken by ``enter``, freed by ``leave``.

    The trap: a process that frees it gives up its claims, so only after its last send.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: int | None = None
        self.name = ""

    def enter(self) -> str:
        """Hold the lock from now on and return its name; does nothing the second time.

        Raises:
            LedgerError: Where the lock file can't be made.
        """
        if self._file is None:
            name = uuid.uuid4().hex
            try:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._sweep()
                self._file = _locked(self._folder / name)
            except OSError as error:
                raise LedgerError(
                    f"no lock file can be made in {self._folder} ({error.strerror}): let this "
                    "user write there"
                ) from error
            self.name = name
            _HELD.add(self)
        return self.name

    def leave(self) -> None:
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

    def _sweep(self) -> None:
        """Remove free lock files that nobody can need any more."""
        oldest = time.time() - _KEEP_SECONDS
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process sweeps too
                if path.stat().st_mtime < oldest and self.is_dead(path.name):
                    path.unlink()


_HELD: weakref.WeakSet[Presence] = weakref.WeakSet()


def _forget_in_child() -> None:
    for presence in _HELD:
        presence.leave()


# A forked child shares the parent's lock: it must not keep it when the parent has died.
os.register_at_fork(after_in_child=_forget_in_child)


def _locked(path: Path) -> int:
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
