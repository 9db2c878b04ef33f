"""Keeps fetched outputs on the local disk while the store can't take them.

An output is deleted by the provider an hour after it was made, and a store may be away for longer.
So the bytes wait here, under the request's fingerprint, until a later run or rescue stores them.
"""

import hashlib
import logging
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

MOST_BYTES = 2 << 30
"""More is not kept: some thousand pictures, and a disk that is left usable."""
_LOOK_EVERY = 1.0
"""s between two looks whether another process has begun to keep something."""


@dataclass(slots=True)
class Spool:
    """A folder of outputs that wait for the store. Safe for several processes."""

    folder: Path
    most_bytes: int = MOST_BYTES
    _absent_until: float = 0.0
    """Until then nothing is looked for, by ``time.monotonic``."""

    def keep(self, request_sha256: str, prediction_id: str | None, index: int, body: bytes) -> bool:
        """Write the bytes to disk; False where the folder is full or can't be written."""
        path = self._path(request_sha256, prediction_id, index)
        if self.find(request_sha256, prediction_id, index) is not None:
            return True
        if self._used_bytes() + len(body) > self.most_bytes:
            log.warning("%s: full, %d bytes are not kept there", self.folder, len(body))
            return False
        unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                file.write(hashlib.sha256(body).digest() + body)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
            self._absent_until = 0.0
        except OSError as error:
            log.warning("%s: can't be written (%s)", self.folder, error.strerror)
            with suppress(OSError):
                unfinished.unlink()
            return False
        return True

    def find(self, request_sha256: str, prediction_id: str | None, index: int) -> bytes | None:
        """The bytes that wait for this output; None where there are none, or they are damaged."""
        try:
            content = self._path(request_sha256, prediction_id, index).read_bytes()
        except OSError:
            return None
        checksum, body = content[:32], content[32:]
        return body if hashlib.sha256(body).digest() == checksum else None

    def forget(self, request_sha256: str, prediction_id: str | None, index: int) -> None:
        """Remove the bytes of an output that is stored now."""
        with suppress(OSError):
            self._path(request_sha256, prediction_id, index).unlink()

    def exists(self) -> bool:
        """Whether anything was ever kept: cheap enough to ask for each image.

        What another process keeps is seen after a second.
        """
        now = time.monotonic()
        if now < self._absent_until:
            return False
        exists = self.folder.is_dir()
        self._absent_until = 0.0 if exists else now + _LOOK_EVERY
        return exists

    def __len__(self) -> int:
        """How many outputs wait."""
        return sum(1 for _ in self.folder.glob("*.output"))

    def _used_bytes(self) -> int:
        """What lies in the folder, also of writers that were killed."""
        used = 0
        for path in self.folder.glob("*"):
            with suppress(OSError):  # another process may have stored it just now
                used += path.stat().st_size
        return used

    def _path(self, request_sha256: str, prediction_id: str | None, index: int) -> Path:
        made_by = hashlib.sha256((prediction_id or "").encode()).hexdigest()[:16]
        return self.folder / f"{request_sha256}-{made_by}-{index}.output"
