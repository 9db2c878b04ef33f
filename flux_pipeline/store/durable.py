"""File writes that are whole or absent, and still there after loss of power.

Each step is flushed to the disk before the next one can be seen: the bytes before the name, the
name before the caller goes on, a new folder before what lies in it.
"""

import errno
import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

_STALE_SECONDS = 86_400


class DurableWriter:
    """Writes files below ``root`` by way of ``staging``, a folder on the same disk.

    Thread-safe; any number of processes may share a root. Every method raises OSError, and leaves
    nothing half written where it does. A process that is killed leaves at most a staged file.
    """

    def __init__(self, root: Path, staging: Path) -> None:
        self._root = root
        self._staging = staging
        self._made: set[Path] = set()

    def write_new(self, path: Path, body: bytes) -> bool:
        """Write ``body`` under a name that is not taken; False, and nothing, where it is."""
        self._make(path.parent)
        staged = self._stage(body)
        try:
            os.link(staged, path)
        except FileExistsError:
            return False
        finally:
            staged.unlink(missing_ok=True)
            # Also where another writer's name is there: it may not have flushed it yet.
            sync_folder(path.parent)
        return True

    def write(self, path: Path, body: bytes) -> None:
        """Write ``body`` under a name, replacing at once what had it."""
        self._make(path.parent)
        staged = self._stage(body)
        try:
            staged.replace(path)
        except OSError:
            staged.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)

    def remove_stale(self, now: float) -> None:
        """Remove what writers staged a day or more before ``now`` (Unix seconds) and left."""
        with os.scandir(self._staging) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if now - entry.stat(follow_symlinks=False).st_mtime >= _STALE_SECONDS:
                        Path(entry.path).unlink()

    def _stage(self, body: bytes) -> Path:
        self._make(self._staging)
        path = self._staging / uuid4().hex
        try:
            with path.open("xb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return path

    def _make(self, folder: Path) -> None:
        """Make a folder once, and again if it is deleted since.

        Names below the root are flushed even where they exist: another writer may have made them
        a moment ago and not have flushed them yet.
        """
        if folder in self._made and folder.exists():
            return
        for part in reversed([folder, *folder.parents]):
            missing = not part.exists()
            part.mkdir(exist_ok=True)
            if missing or (part != self._root and part.is_relative_to(self._root)):
                sync_folder(part.parent)
        self._made.add(folder)


def sync_folder(folder: Path) -> None:
    """Flush the names in ``folder``; does nothing where the file system has no such call.

    Raises OSError.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)
