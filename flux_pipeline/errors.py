"""The errors that this package raises on purpose, as one tree, and the problems of a configuration.

    FluxPipelineError
    ├── ConfigError         a prompt set, a table or a setting is wrong; holds every Problem found
    ├── ProviderError       the prediction API answered in a way that stops the run
    ├── DownloadError       an output could not be fetched; says whether a later try may help
    ├── ImageError          bytes that are not the image asked for
    ├── SigningError        an image could not be signed: no key, or the file can't hold a manifest
    ├── StoreError          an object could not be written or read
    │   └── ObjectConflict  other bytes are already stored under the key
    ├── LedgerError         the ledger could not be written or read: nothing is sent without it
    │   └── WrongStore      the store is not the one that the ledger's images lie in
    └── HistoryError        Dagster's history of runs (DAGSTER_HOME) failed during a run

A message names the file or id, what is wrong and what to do. None holds a key, a signed URL or a
data URI.
"""

from collections.abc import Iterable
from dataclasses import dataclass

MAX_PER_FILE = 100
"""Problems beyond this are counted, not listed: a wrong delimiter breaks every row of a table."""


class FluxPipelineError(Exception):
    """Base of every error raised on purpose."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake in a file or an environment variable: its place, and what is allowed there."""

    path: str
    line: int
    """1-based; 0 where no line is known or the whole file is meant."""
    key: str
    """Dotted, such as ``prompts.castle.num_outputs``; empty for the whole file."""
    message: str

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else self.path
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class ConfigError(FluxPipelineError):
    """Raised before anything is sent, with all the problems of all the files at once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(map(str, self.problems)))


class ProviderError(FluxPipelineError):
    """Raised when the provider's answer stops the whole run."""


class DownloadError(FluxPipelineError):
    """Raised when an output could not be fetched."""

    def __init__(self, message: str, *, retryable: bool = False, gone: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable
        """A later try of the same URL may succeed (5xx, cut, timeout)."""
        self.gone = gone
        """The URL answered 403 or 404: the prediction must be asked for a new one."""


class ImageError(FluxPipelineError):
    """Raised when bytes are not a whole, readable image of the format and size asked for."""


class SigningError(FluxPipelineError):
    """Raised when an image could not be signed; it is paid, and a later try may succeed."""


class StoreError(FluxPipelineError):
    """Raised when an object could not be written or read."""


class ObjectConflict(StoreError):
    """Raised when a key already holds other bytes; both checksums are in the message."""


class LedgerError(FluxPipelineError):
    """Raised when the ledger could not be written or read."""


class Problems:
    """Collects problems of any number of files, each once and at most ``MAX_PER_FILE`` a file."""

    def __init__(self) -> None:
        self._listed: dict[str, set[Problem]] = {}
        self._unlisted: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._listed)

    def add(self, path: str, line: int, key: str, message: str) -> None:
        """Add one problem; adding the same one again changes nothing."""
        listed = self._listed.setdefault(path, set())
        problem = Problem(path, line, key, message)
        if problem in listed:
            return
        if len(listed) < MAX_PER_FILE:
            listed.add(problem)
        else:
            self._unlisted[path] = self._unlisted.get(path, 0) + 1

    def add_all(self, problems: Iterable[Problem]) -> None:
        """Add the problems of another collector, whose limit was applied there already."""
        for problem in problems:
            self._listed.setdefault(problem.path, set()).add(problem)

    def as_tuple(self) -> tuple[Problem, ...]:
        """All problems by file and line; for those that are not listed, one with their number."""
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


class WrongStore(LedgerError):
    """Raised when the store is not the one that the ledger's images lie in: moved, or made anew."""


class HistoryError(FluxPipelineError):
    """Raised when Dagster's history of runs could not be written during a run."""
