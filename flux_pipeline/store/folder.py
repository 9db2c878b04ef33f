"""Objects as plain files in plain folders, which people can open, copy and delete.

The file under the key is the object, and the only truth: it appears by one ``os.link`` of a
finished and flushed temporary file, or not at all. Its note (see ``notes``) is written before it.
A crash between the two leaves a note that nothing reads; a picture that somebody edits loses its
note instead of lying. The price: ``head`` reads the whole file to know its checksum.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from flux_pipeline.errors import StoreError
from flux_pipeline.store.base import StoredObject
from flux_pipeline.store.durable import DurableWriter, sync_folder
from flux_pipeline.store.folder_errors import naming
from flux_pipeline.store.keys import check_key, check_metadata, check_prefix, is_key
from flux_pipeline.store.notes import Notes

_TRIES = 8


class FolderStore:
    """A store in one folder, which is made where it is missing.

    Safe against any number of threads and processes on one machine, and against SIGKILL and loss
    of power at any moment. Needs a file system with hard links; ``check`` says so. A key can't be
    a file and a folder at once: ``a`` and ``a/b`` exclude each other here.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        hidden = self._root / ".store"
        self._staging = hidden / "staging"
        self._writer = DurableWriter(self._root, self._staging)
        self._notes = Notes(hidden / "notes", self._writer)

    @property
    def uri(self) -> str:
        """``file:///absolute/path``, percent-encoded."""
        return self._root.as_uri()

    def check(self) -> None:
        """Write, link and remove a file, and remove what killed writers left a day ago or more.

        Raises StoreError.
        """
        probe = self._staging / f"probe-{uuid4().hex}"
        with naming(self.uri):
            first, second = self._writer.write_new(probe, b""), self._writer.write_new(probe, b"")
            if (first, second) != (True, False):
                raise StoreError(f"{self.uri}: a link can overwrite here; choose another disk")
            self._writer.remove_stale(now=probe.stat().st_mtime)
            probe.unlink()

    def put_new(
        self, key: str, body: bytes, *, content_type: str, metadata: Mapping[str, str]
    ) -> tuple[StoredObject, bool]:
        """Write ``body`` if nothing lies under ``key``; return the object and whether it was new.

        Where another writer brings the same bytes at the same time, or died while it did, the
        metadata of the first of them stand. Raises StoreError.
        """
        check_key(key)
        check_metadata(content_type, metadata)
        path = self._root / key
        with naming(self._uri(key)):
            for _ in range(_TRIES):
                if not os.path.lexists(path):
                    checksum = hashlib.sha256(body).hexdigest()
                    stands = self._notes.add(key, checksum, content_type, metadata)
                    if self._writer.write_new(path, body):
                        return StoredObject(key, self._uri(key), len(body), checksum, *stands), True
                if existing := self.head(key):
                    sync_folder(path.parent)
                    return existing, False
        raise StoreError(
            f"{self._uri(key)}: this name is a folder's or a broken link's; move it away"
        )

    def put(self, key: str, body: bytes, *, content_type: str) -> StoredObject:
        """Write ``body``, replacing at once and whole what lies there. Raises StoreError."""
        check_key(key)
        check_metadata(content_type, {})
        checksum = hashlib.sha256(body).hexdigest()
        with naming(self._uri(key)):
            self._notes.replace(key, checksum, content_type)
            self._writer.write(self._root / key, body)
        return StoredObject(key, self._uri(key), len(body), checksum, content_type)

    def head(self, key: str) -> StoredObject | None:
        """What lies under ``key``, or None; the checksum is always that of the bytes as they are.

        Raises StoreError.
        """
        check_key(key)
        with naming(self._uri(key)):
            try:
                with (self._root / key).open("rb") as file:
                    size = os.fstat(file.fileno()).st_size
                    checksum = hashlib.file_digest(file, "sha256").hexdigest()
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                return None
            stands = self._notes.read(key, checksum)
        return StoredObject(key, self._uri(key), size, checksum, *stands)

    def get(self, key: str) -> bytes:
        """The bytes under ``key``. Raises StoreError, also where there are none."""
        check_key(key)
        with naming(self._uri(key)):
            return (self._root / key).read_bytes()

    def list(self, prefix: str = "") -> Iterator[str]:
        """The keys that start with ``prefix``, in the byte order of the whole key, as S3's.

        Files whose names can't be keys, and links, are left out. Raises StoreError.
        """
        check_prefix(prefix)
        with naming(self._uri(prefix)):
            yield from self._walk("", prefix)

    def _walk(self, folder: str, prefix: str) -> Iterator[str]:
        names = []
        with suppress(FileNotFoundError), os.scandir(self._root / folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    names.append(f"{folder}{entry.name}/")
                elif entry.is_file(follow_symlinks=False):
                    names.append(f"{folder}{entry.name}")
        for name in sorted(names):
            if name.endswith("/"):
                matches = name.startswith(prefix) or prefix.startswith(name)
                if matches and is_key(name[:-1]):
                    yield from self._walk(name, prefix)
            elif name.startswith(prefix) and is_key(name):
                yield name

    def _uri(self, key: str) -> str:
        return f"{self.uri}/{key}"
