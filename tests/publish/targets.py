"""Targets that break off or pause at one operation, and what a reader of an index sees."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from flux_pipeline.store.base import Body
from flux_pipeline.store.target import Target, TargetFile

Wrap = Callable[[Target], Target]


class Killed(BaseException):
    """The end of a publisher; no handler of errors sees it."""


@dataclass
class WatchedTarget:
    """A target whose operations are counted; ``before`` and ``after`` are called around each."""

    target: Target
    before: Callable[[int, str], object] = lambda _number, _what: None
    after: Callable[[int, str], object] = lambda _number, _what: None
    seen: list[str] = field(default_factory=list)

    @property
    def uri(self) -> str:
        return self.target.uri

    def _do(self, what: str, work: Callable[[], Any]) -> Any:
        self.seen.append(what)
        number = len(self.seen)
        self.before(number, what)
        found = work()
        self.after(number, what)
        return found

    def check(self) -> None:
        self._do("check", self.target.check)

    def find(self, prefix: str = "") -> Iterator[TargetFile]:
        found: list[TargetFile] = self._do(f"find {prefix}", lambda: list(self.target.find(prefix)))
        return iter(found)

    def read(self, path: str) -> tuple[bytes, str] | None:
        found: tuple[bytes, str] | None = self._do(f"read {path}", lambda: self.target.read(path))
        return found

    def fetch(self, path: str, into: BinaryIO) -> str | None:
        found: str | None = self._do(f"read {path}", lambda: self.target.fetch(path, into))
        return found

    def put(self, path: str, body: Body, **options: Any) -> str:
        return str(self._do(f"put {path}", lambda: self.target.put(path, body, **options)))

    def delete(self, path: str) -> None:
        self._do(f"delete {path}", lambda: self.target.delete(path))

    @contextmanager
    def exclusive(self, on_wait: Callable[[], None] | None = None) -> Iterator[Callable[[], None]]:
        self.seen.append("exclusive")
        number = len(self.seen)
        self.before(number, "exclusive")
        with self.target.exclusive(on_wait) as keep:
            self.after(number, "exclusive")
            yield keep


def killed_at(number: int) -> Callable[[Target], WatchedTarget]:
    """A target that ends its publisher after its n-th operation."""

    def kill(done: int, _what: str) -> None:
        if done == number:
            raise Killed

    return lambda target: WatchedTarget(target, after=kill)


def missing_files(target: Target, path: str = "index.json") -> list[str]:
    """The files that the index names and that are not there, for whoever reads it now.

    A reader that comes late reads again: what is gone may be so by a newer index.
    """
    while True:
        read = target.read(path)
        if read is None:
            return []
        index = json.loads(read[0])
        named = {file["path"] for image in index["images"] for file in image["files"]}
        missing = sorted(named - {file.path for file in target.find()})
        if not missing or target.read(path) == read:
            return missing
