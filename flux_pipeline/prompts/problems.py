"""Collects what is wrong, so that everything is said at once and nothing is said without end."""

from collections.abc import Iterable

from flux_pipeline.errors import ConfigError, Problem

MAX_PER_FILE = 100
"""More of one file's problems are counted, not listed: a wrong delimiter breaks every row."""


class Problems:
    """Problems of any number of files, each once, at most ``MAX_PER_FILE`` a file."""

    def __init__(self) -> None:
        self._listed: dict[str, set[Problem]] = {}
        self._unlisted: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._listed)

    def add(self, path: str, line: int, key: str, message: str) -> None:
        """Take one problem; the same one twice is one."""
        listed = self._listed.setdefault(path, set())
        problem = Problem(path, line, key, message)
        if problem in listed:
            return
        if len(listed) < MAX_PER_FILE:
            listed.add(problem)
        else:
            self._unlisted[path] = self._unlisted.get(path, 0) + 1

    def add_all(self, problems: Iterable[Problem]) -> None:
        """Take over what was found, and limited, elsewhere."""
        for problem in problems:
            self._listed.setdefault(problem.path, set()).add(problem)

    def as_tuple(self) -> tuple[Problem, ...]:
        """All of them, by file and line."""
        listed = [problem for problems in self._listed.values() for problem in problems]
        more = [
            Problem(path, 0, "", f"{count + MAX_PER_FILE:,} problems; {MAX_PER_FILE} are listed")
            for path, count in self._unlisted.items()
        ]
        return tuple(sorted(listed + more))

    def raise_if_any(self) -> None:
        """Raise ConfigError with all of them, if there are any."""
        if self._listed:
            raise ConfigError(self.as_tuple())
