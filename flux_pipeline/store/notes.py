"""What a file can't say of itself - content type and metadata - kept beside a folder's files.

A note is named after the key *and* the checksum of the bytes it speaks of, so it never describes
other bytes. It is written before its file appears; a note without its file means nothing.
"""

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from flux_pipeline.errors import StoreError
from flux_pipeline.store.durable import DurableWriter

_TYPES = {
    ".html": "text/html",
    ".jpg": "image/jpeg",
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
    ".png": "image/png",
    ".webp": "image/webp",
}


class Notes:
    """The notes of one store, in ``folder``. Methods raise OSError, and StoreError where said."""

    def __init__(self, folder: Path, writer: DurableWriter) -> None:
        self._folder = folder
        self._writer = writer

    def add(
        self, key: str, checksum: str, content_type: str, metadata: Mapping[str, str]
    ) -> tuple[str, dict[str, str]]:
        """Write a note where it says more than the key does and there is none; return what stands.

        Where two writers bring the same bytes, the first one's note stands for both.
        """
        if metadata or content_type != _usual_type(key):
            self._writer.write_new(self._path(key, checksum), _encode(content_type, metadata))
        return self.read(key, checksum)

    def replace(self, key: str, checksum: str, content_type: str) -> None:
        """Say of these bytes that they have this type and no metadata."""
        path = self._path(key, checksum)
        if content_type != _usual_type(key) or path.exists():
            self._writer.write(path, _encode(content_type, {}))

    def read(self, key: str, checksum: str) -> tuple[str, dict[str, str]]:
        """The content type and metadata of these bytes. Raises StoreError for a damaged note."""
        path = self._path(key, checksum)
        try:
            said = json.loads(path.read_bytes())
            return said["content_type"], said["metadata"]
        except FileNotFoundError:
            return _usual_type(key), {}
        except (ValueError, KeyError, TypeError):
            raise StoreError(
                f"{path.as_uri()}: a damaged note; delete it to lose the metadata of one object"
            ) from None

    def _path(self, key: str, checksum: str) -> Path:
        return self._folder / f"{key}.{checksum}.json"


def _usual_type(key: str) -> str:
    """What a file of this name holds if no note says otherwise."""
    return _TYPES.get(PurePosixPath(key).suffix, "application/octet-stream")


def _encode(content_type: str, metadata: Mapping[str, str]) -> bytes:
    said = {"content_type": content_type, "metadata": dict(metadata)}
    return json.dumps(said, sort_keys=True).encode()
