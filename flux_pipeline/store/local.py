"""A store in a folder: objects are plain files, which people can open, copy and delete.

The file under the key is the object. It appears by one ``os.link`` of a finished and flushed
temporary file, or not at all. Its content type and metadata are in a note beside it (``Notes``),
which is written first. A crash between the two leaves a note that nothing reads, and an image that
somebody edits has no note any more, instead of a wrong one. The price: ``head`` reads the whole
file for its checksum.
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from heapq import merge
from pathlib import Path, PurePosixPath
from uuid import uuid4

from flux_pipeline.errors import StoreError
from flux_pipeline.store.base import (
    Body,
    StoredObject,
    check_key,
    check_metadata,
    check_prefix,
    is_key,
    pieces_of,
)

_TRIES = 8
_STALE_SECONDS = 86_400
_NAMES_OF_A_PACK = 10_000


class FolderStore:
    """A store in one folder, which is created where it is missing.

    Safe against any number of threads and processes on one machine, and against SIGKILL and loss
    of power at any moment. Needs a file system with hard links; ``check`` says so. A key can't be
    a file and a folder at once: ``a`` and ``a/b`` exclude each other here.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._root_uri = self._root.as_uri()
        self._is_checked = False
        hidden = self._root / ".store"
        self._staging = hidden / "staging"
        self._writer = DurableWriter(self._root, self._staging)
        self._notes = Notes(hidden / "notes", self._writer)

    @property
    def uri(self) -> str:
        """``file:///absolute/path``, percent-encoded."""
        return self._root_uri

    def check(self) -> None:
        """Write, link and remove a file, and remove what killed writers left a day ago or more.

        Raises StoreError.
        """
        probe = self._staging / f"probe-{uuid4().hex}"
        with store_errors(self.uri):
            first, second = self._writer.write_new(probe, b""), self._writer.write_new(probe, b"")
            if (first, second) != (True, False):
                raise StoreError(f"{self.uri}: a link can overwrite here; choose another disk")
            self._writer.remove_stale(now=probe.stat().st_mtime)
            probe.unlink()
        self._is_checked = self._writer.has_root = True

    def put_new(
        self,
        key: str,
        body: bytes,
        *,
        content_type: str,
        metadata: Mapping[str, str],
        sha256: str = "",
    ) -> tuple[StoredObject, bool]:
        """Write ``body`` if nothing lies under ``key``; return the object and whether it was new.

        Where another writer brings the same bytes at the same time, or died while it did, the
        metadata of the first of them stand. Raises StoreError.
        """
        check_key(key)
        check_metadata(content_type, metadata)
        path = self._root / key
        with self._writing(key):
            for _ in range(_TRIES):
                if not os.path.lexists(path):
                    checksum = sha256 or hashlib.sha256(body).hexdigest()
                    note = self._notes.add(key, checksum, content_type, metadata)
                    if self._writer.write_new(path, body):
                        return StoredObject(key, self._uri(key), len(body), checksum, *note), True
                if existing := self.head(key):
                    # Its writer may not have flushed its name yet, and we say that it is durable.
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
        with self._writing(key):
            self._notes.replace(key, checksum, content_type)
            self._writer.write(self._root / key, body)
        return StoredObject(key, self._uri(key), len(body), checksum, content_type)

    @contextmanager
    def _writing(self, key: str) -> Iterator[None]:
        """Write in this block; what goes wrong because the store went meanwhile is said so."""
        self._check_still_there()
        try:
            with store_errors(self._uri(key)):
                yield
        except StoreError:
            self._check_still_there()
            raise

    def _check_still_there(self) -> None:
        """Make no new store in place of one that was moved away or unmounted during a run."""
        if self._is_checked and not self._staging.is_dir():
            raise StoreError(
                f"{self.uri}: was here when the run began, and is gone: was it moved, or its disk"
                " unmounted? Bring it back; nothing was written"
            )

    def head(self, key: str) -> StoredObject | None:
        """What lies under ``key``, or None; the checksum is always that of the bytes as they are.

        Raises StoreError.
        """
        check_key(key)
        with store_errors(self._uri(key)):
            try:
                with (self._root / key).open("rb") as file:
                    size = os.fstat(file.fileno()).st_size
                    checksum = hashlib.file_digest(file, "sha256").hexdigest()
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                return None
            note = self._notes.read(key, checksum)
        return StoredObject(key, self._uri(key), size, checksum, *note)

    def get(self, key: str) -> bytes:
        """The bytes under ``key``. Raises StoreError, also where there are none."""
        check_key(key)
        with store_errors(self._uri(key)):
            return (self._root / key).read_bytes()

    def delete(self, key: str) -> None:
        """Remove the file and its note; does nothing where there is no file. Raises StoreError."""
        check_key(key)
        path = self._root / key
        with store_errors(self._uri(key)):
            try:
                with path.open("rb") as file:
                    checksum = hashlib.file_digest(file, "sha256").hexdigest()
                path.unlink()
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                return
            sync_folder(path.parent)
            # After the file: a note without one means nothing.
            self._notes.remove(key, checksum)

    def list(self, prefix: str = "") -> Iterator[str]:
        """The keys that start with ``prefix``, in the byte order of the whole key, as S3's.

        Files whose names can't be keys, and links, are left out. Raises StoreError.
        """
        check_prefix(prefix)
        with store_errors(self._uri(prefix)):
            yield from self._walk("", prefix)

    def _walk(self, folder: str, prefix: str) -> Iterator[str]:
        names = SortedNames()
        with suppress(FileNotFoundError), os.scandir(self._root / folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    names.add(f"{entry.name}/")
                elif entry.is_file(follow_symlinks=False):
                    names.add(entry.name)
        for name in names:
            key = f"{folder}{name}"
            if key.endswith("/"):
                matches = key.startswith(prefix) or prefix.startswith(key)
                if matches and is_key(key[:-1]):
                    yield from self._walk(key, prefix)
            elif key.startswith(prefix) and is_key(key):
                yield key

    def _uri(self, key: str) -> str:
        return f"{self.uri}/{key}"


class SortedNames:
    """The names in one folder, in order.

    Of a folder of very many most are held as one text, which takes half of the memory.
    """

    def __init__(self) -> None:
        self._packs: list[str] = []
        """Each of sorted names, with NUL behind every one: no name has that in it."""
        self._last: list[str] = []

    def add(self, name: str) -> None:
        """Add one."""
        self._last.append(name)
        if len(self._last) == _NAMES_OF_A_PACK:
            self._packs.append("\0".join([*sorted(self._last), ""]))
            self._last.clear()

    def __iter__(self) -> Iterator[str]:
        if not self._packs:
            return iter(sorted(self._last))
        return merge(*map(_names_of, self._packs), iter(sorted(self._last)))


def _names_of(pack: str) -> Iterator[str]:
    """The names one by one."""
    begin = 0
    while (end := pack.find("\0", begin)) >= 0:
        yield pack[begin:end]
        begin = end + 1


class DurableWriter:
    """Writes files below ``root`` whole or not at all, and durably, by way of ``staging``.

    ``staging`` is a folder on the same disk. Each step is flushed before the next one can be seen:
    the bytes before the name, the name before the caller goes on, a new folder before its files.
    Thread-safe; any number of processes may share a root. Every method raises OSError, and leaves
    nothing half written where it does. A process that is killed leaves at most a staged file.
    """

    def __init__(self, root: Path, staging: Path) -> None:
        self._root = root
        self._staging = staging
        self._created: set[Path] = set()
        self.has_root = False
        """Whether the root is known to be there, and must not be made anew."""

    def write_new(self, path: Path, body: bytes) -> bool:
        """Write ``body`` under a name that is not taken; return False where it is."""
        self._create_folder(path.parent)
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

    def write(self, path: Path, body: Body) -> None:
        """Write ``body`` under a name, replacing at once what had it."""
        self._create_folder(path.parent)
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

    def _stage(self, body: Body) -> Path:
        self._create_folder(self._staging)
        path = self._staging / uuid4().hex
        try:
            with path.open("xb") as file:
                for piece in pieces_of(body):
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return path

    def _create_folder(self, folder: Path) -> None:
        """Create a folder once, and again if it was deleted since.

        Names below the root are flushed even where they exist: another writer may have made them
        a moment ago and not have flushed them yet.
        """
        if folder in self._created and folder.exists():
            return
        for part in reversed([folder, *folder.parents]):
            is_below = part != self._root and part.is_relative_to(self._root)
            if self.has_root and not is_below:
                continue
            missing = not part.exists()
            part.mkdir(exist_ok=True)
            if missing or is_below:
                sync_folder(part.parent)
        self._created.add(folder)


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


class Notes:
    """Content types and metadata of one store's files, as JSON files in ``folder``.

    A note is named after the key *and* the checksum of the bytes that it describes, so it never
    describes other bytes. A note without its file means nothing. Methods raise OSError, and
    StoreError where said.
    """

    def __init__(self, folder: Path, writer: DurableWriter) -> None:
        self._folder = folder
        self._writer = writer

    def add(
        self, key: str, checksum: str, content_type: str, metadata: Mapping[str, str]
    ) -> tuple[str, dict[str, str]]:
        """Write a note where the key alone doesn't say as much; return what is noted then.

        Where two writers bring the same bytes, the note of the first holds for both.
        """
        if metadata or content_type != _default_type(key):
            self._writer.write_new(self._path(key, checksum), _encode(content_type, metadata))
        return self.read(key, checksum)

    def replace(self, key: str, checksum: str, content_type: str) -> None:
        """Note that these bytes have this type and no metadata."""
        path = self._path(key, checksum)
        if content_type != _default_type(key) or path.exists():
            self._writer.write(path, _encode(content_type, {}))

    def remove(self, key: str, checksum: str) -> None:
        """Remove the note about these bytes, where there is one."""
        self._path(key, checksum).unlink(missing_ok=True)

    def read(self, key: str, checksum: str) -> tuple[str, dict[str, str]]:
        """The content type and metadata of these bytes. Raises StoreError for a damaged note."""
        path = self._path(key, checksum)
        try:
            note = json.loads(path.read_bytes())
            return note["content_type"], note["metadata"]
        except FileNotFoundError:
            return _default_type(key), {}
        except (ValueError, KeyError, TypeError):
            raise StoreError(
                f"{path.as_uri()}: a damaged note; delete it to lose the metadata of one object"
            ) from None

    def _path(self, key: str, checksum: str) -> Path:
        return self._folder / f"{key}.{checksum}.json"


_TYPES = {
    ".html": "text/html",
    ".jpg": "image/jpeg",
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
    ".png": "image/png",
    ".webp": "image/webp",
}


def _default_type(key: str) -> str:
    """The content type of a file without a note, by its suffix."""
    return _TYPES.get(PurePosixPath(key).suffix, "application/octet-stream")


def _encode(content_type: str, metadata: Mapping[str, str]) -> bytes:
    note = {"content_type": content_type, "metadata": dict(metadata)}
    return json.dumps(note, sort_keys=True).encode()


@contextmanager
def store_errors(place: str) -> Iterator[None]:
    """Turn OSErrors of the body into StoreErrors that begin with ``place``. Raises StoreError."""
    try:
        yield
    except OSError as error:
        code = error.errno or 0
        reason = os.strerror(code) if code else type(error).__name__
        hint = _HINTS.get(code)
        raise StoreError(f"{place}: {reason}" + (f"; {hint}" if hint else "")) from error


_HINTS = {
    errno.ENOENT: "there is no such object",
    errno.ENOSPC: "free some space or choose another disk; nothing was written",
    errno.EDQUOT: "the quota is used up: free some space; nothing was written",
    errno.EFBIG: "the size limit of this process or disk is reached; nothing was written",
    errno.EACCES: "this user may not write or read here: correct the folder's owner or mode",
    errno.EROFS: "choose a folder that can be written",
    errno.EPERM: "this disk may have no hard links, or forbids it: choose a folder on another one",
    errno.ENOTSUP: "this disk has no hard links: choose a folder on another one",
    errno.EXDEV: "a folder inside is on another disk: keep the whole store on one",
    errno.EMLINK: "this disk has no hard links: choose a folder on another one",
    errno.EEXIST: "a part of this key is a file already, so it can't be a folder",
    errno.ENOTDIR: "a part of this key is a file already, so it can't be a folder",
    errno.EISDIR: "this key is a folder already, so it can't be an object",
    errno.EIO: "the disk fails: look at it before anything else is written",
    errno.EMFILE: "too many open files: raise `ulimit -n` or lower the concurrency",
}
