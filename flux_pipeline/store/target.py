"""Where published pictures go: files under any path in a folder or a bucket, written and replaced.

Unlike the store's keys, which are written once, a target's paths are names that a web site knows,
so they hold any characters that ``check_path`` allows, and are replaced and deleted. Every
implementation passes ``tests/store/target_contract.py``.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, Protocol, TypeAlias
from uuid import uuid4

from flux_pipeline.errors import StoreError
from flux_pipeline.store.base import PIECE, Body
from flux_pipeline.store.local import DurableWriter, store_errors, sync_folder

Kind: TypeAlias = Literal["picture", "index", "private"]
"""What a file is: an index is never cached, and what is private is for publishers alone."""
MAX_PATH_BYTES = 1024
MAX_PART_BYTES = 255
STAGING = ".publishing"
"""The folder in a target folder in which files are written before they get their names."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOptions:
    """What a bucket is told of every published file; a folder has no use for it."""

    cache_control: str = ""
    """Of pictures, such as ``public, max-age=86400``; indexes are ``no-cache`` always."""
    acl: str = ""
    """A canned ACL, such as ``public-read``; empty: none is sent."""
    storage_class: str = ""
    """Empty: as the bucket is configured."""


@dataclass(frozen=True, slots=True)
class TargetFile:
    """One file as it lies in a target."""

    path: str
    size: int
    """bytes"""
    tag: str
    """Another one after every write of other bytes: an ETag, or size and time of change."""


class TargetChanged(StoreError):
    """Raised where a file was to be replaced on a condition, and another writer had been there."""


class Target(Protocol):
    """Files under paths. Blocking and thread-safe. Every method raises StoreError."""

    @property
    def uri(self) -> str:
        """Where the paths live: ``file:///folder`` or ``s3://bucket/prefix``."""
        ...

    def check(self) -> None:
        """Look whether files can be written here; remove what killed publishers left."""
        ...

    def find(self, prefix: str = "") -> Iterator[TargetFile]:
        """Every file whose path begins so, hidden ones too, in no order."""
        ...

    def read(self, path: str) -> tuple[bytes, str] | None:
        """The bytes of a file and its tag; None where there is none."""
        ...

    def fetch(self, path: str, into: BinaryIO) -> str | None:
        """As ``read``, but into an open, empty file; return the tag."""
        ...

    def put(
        self,
        path: str,
        body: Body,
        *,
        content_type: str = "",
        kind: Kind = "picture",
        replacing: str | None = None,
    ) -> str:
        """Write a file at once and whole, durably; return its tag. ``body`` stays open.

        With ``replacing`` (a tag; empty: nothing) it is written only if that
        is what lies there, else TargetChanged is raised.
        """
        ...

    def delete(self, path: str) -> None:
        """Remove a file; nothing where there is none."""
        ...

    def exclusive(
        self, on_wait: Callable[[], None] | None = None
    ) -> AbstractContextManager[Callable[[], None]]:
        """Keep other publishers of this target out until the end of the block, or wait for them.

        Gives a function to be called before every write that must not come late: it raises
        StoreError where another publisher may have been let in meanwhile. ``on_wait`` is called
        once, before the first wait. Kills free it: at once in a folder, after a minute in a bucket.
        """
        ...


def find_path_mistake(path: str) -> str:
    """Why a text can't be a path in every target; empty where it can."""
    parts = path.split("/")
    if not path or "" in parts:
        return "has an empty part"
    if ".." in parts or "." in parts:
        return "leaves the target, or could"
    if _CONTROL.search(path) or "\\" in path:
        return "holds control characters or a backslash"
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        return "holds half a character"
    if max(sizes) > MAX_PART_BYTES or sum(sizes) + len(parts) - 1 > MAX_PATH_BYTES:
        return f"is longer than {MAX_PART_BYTES} bytes a part or {MAX_PATH_BYTES} in all"
    return ""


def check_path(path: str) -> None:
    """Refuse a path that would be another file, or none, in some target. Raises ValueError."""
    if mistake := find_path_mistake(path):
        raise ValueError(f"path {path[:200]!r} {mistake}")


class FolderTarget:
    """A target in one folder, which is created where it is missing.

    Files appear by one rename of a finished and flushed file of the folder ``.publishing``. Safe
    against any number of publishers on one machine and SIGKILL at any moment.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._staging = self._root / STAGING
        self._writer = DurableWriter(self._root, self._staging)

    @property
    def uri(self) -> str:
        """``file:///absolute/path``, percent-encoded."""
        return self._root.as_uri()

    def check(self) -> None:
        """Write and remove a file, and remove what killed publishers left a day ago or more."""
        self._make_root()
        with store_errors(self.uri):
            probe = self._staging / f"probe-{uuid4().hex}"
            self._writer.write(probe, b"")
            self._writer.remove_stale(now=probe.stat().st_mtime)
            probe.unlink()

    def find(self, prefix: str = "") -> Iterator[TargetFile]:
        """Every file whose path begins so; links, and what is being written, are left out."""
        folder = prefix.rpartition("/")[0]
        with store_errors(self._uri(prefix)):
            yield from self._walk(f"{folder}/" if folder else "", prefix)

    def _walk(self, folder: str, prefix: str) -> Iterator[TargetFile]:
        try:
            entries = os.scandir(self._root / folder)
        except (FileNotFoundError, NotADirectoryError):
            return
        with entries:
            for entry in entries:
                path = f"{folder}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    below = f"{path}/"
                    if path != STAGING and (below.startswith(prefix) or prefix.startswith(below)):
                        yield from self._walk(below, prefix)
                elif entry.is_file(follow_symlinks=False) and path.startswith(prefix):
                    try:
                        stat = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:  # another publisher has just removed it
                        continue
                    yield TargetFile(path, stat.st_size, _tag(stat))

    def read(self, path: str) -> tuple[bytes, str] | None:
        """The bytes of a file and its tag; None where there is none."""
        check_path(path)
        with store_errors(self._uri(path)):
            try:
                with (self._root / path).open("rb") as file:
                    return file.read(), _tag(os.fstat(file.fileno()))
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None

    def fetch(self, path: str, into: BinaryIO) -> str | None:
        """As ``read``, but into an open, empty file; return the tag."""
        check_path(path)
        with store_errors(self._uri(path)):
            try:
                with (self._root / path).open("rb") as file:
                    shutil.copyfileobj(file, into, PIECE)
                    return _tag(os.fstat(file.fileno()))
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None

    def put(
        self,
        path: str,
        body: Body,
        *,
        content_type: str = "",
        kind: Kind = "picture",
        replacing: str | None = None,
    ) -> str:
        """Write a file at once and whole, durably; return its tag.

        A condition holds among publishers in ``exclusive``; the file's name alone says its type.
        """
        del content_type, kind
        check_path(path)
        self._make_root()
        with store_errors(self._uri(path)):
            place = self._root / path
            if replacing is not None and self._tag_of(place) != replacing:
                raise TargetChanged(
                    f"{self._uri(path)}: another publisher has written it meanwhile"
                )
            self._writer.write(place, body)
            return self._tag_of(place)

    def delete(self, path: str) -> None:
        """Remove a file; nothing where there is none."""
        check_path(path)
        with store_errors(self._uri(path)):
            place = self._root / path
            try:
                place.unlink()
            except (FileNotFoundError, NotADirectoryError):
                return
            sync_folder(place.parent)

    @contextmanager
    def exclusive(self, on_wait: Callable[[], None] | None = None) -> Iterator[Callable[[], None]]:
        """Lock the folder itself, which leaves no file, and which the kernel frees at any end.

        The trap: not every network file system has locks that other machines see.
        """
        self._make_root()
        with store_errors(self.uri):
            handle = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if on_wait is not None:
                    on_wait()
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield _never_lost
        finally:
            os.close(handle)

    def _make_root(self) -> None:
        """Make the folder where it is missing, durably."""
        try:
            if self._root.is_dir():
                return
            missing = [part for part in (self._root, *self._root.parents) if not part.exists()]
            self._root.mkdir(parents=True, exist_ok=True)
            for part in missing:
                sync_folder(part.parent)
        except OSError as error:
            nearest = next(part for part in (self._root, *self._root.parents) if part.exists())
            why = error.strerror if nearest.is_dir() else f"{nearest} is a file"
            raise StoreError(
                f"{self.uri}: this folder can't be made ({why}): make it, or give publish.to"
                " another place"
            ) from error

    def _tag_of(self, place: Path) -> str:
        try:
            return _tag(place.stat(follow_symlinks=False))
        except (FileNotFoundError, NotADirectoryError):
            return ""

    def _uri(self, path: str) -> str:
        return f"{self.uri}/{path}"


def _tag(stat: os.stat_result) -> str:
    return f"{stat.st_size}-{stat.st_mtime_ns}"


def _never_lost() -> None:
    """The kernel keeps a lock as long as its process lives."""
