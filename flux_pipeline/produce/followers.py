"""The sets that follow another one, begun while that one is being made: picture by picture.

Their own step comes later in the same run and does the rest: it takes over the results that are
here, resumes what is under way by the ledger, and writes the lineage rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol

from flux_pipeline.produce.budgets import Limits
from flux_pipeline.produce.policy import RunContext
from flux_pipeline.produce.report import Result
from flux_pipeline.produce.source_pictures import stored_pictures
from flux_pipeline.prompts.chain import PictureLookup
from flux_pipeline.request import InputPicture, Request


class FollowingSet(Protocol):
    """The part of a prompt set that is needed to begin it."""

    @property
    def name(self) -> str:
        """The set's name."""
        ...

    @property
    def sources(self) -> Mapping[str, object]:
        """The sets whose pictures it is made for, by name."""
        ...

    def followers(self, made: Request, lookup: PictureLookup) -> Iterator[Request]:
        """See ``PromptSet.followers``."""
        ...


@dataclass(frozen=True, slots=True)
class Follower:
    """One set that follows, with the run and the budgets of its requests."""

    prompt_set: FollowingSet
    run: RunContext
    limits: Limits


@dataclass(frozen=True, slots=True)
class Followers:
    """The sets that follow the one that is being made, in the same run."""

    sets: Sequence[Follower] = ()

    def requests(self, result: Result) -> Iterator[tuple[Follower, Request]]:
        """The requests that follow from a result, of every set that is made for its pictures."""
        made = result.request
        if made.source.prompt_set not in {
            name for each in self.sets for name in each.prompt_set.sources
        }:
            return
        lookup = _ResultPictures(result)
        for each in self.sets:
            if made.source.prompt_set in each.prompt_set.sources:
                for request in each.prompt_set.followers(made, lookup):
                    yield each, request


@dataclass(frozen=True, slots=True)
class _ResultPictures:
    """The pictures of one request by its result."""

    result: Result

    def find(self, requests: Sequence[Request]) -> Sequence[Sequence[InputPicture]]:
        """See ``PictureLookup.find``."""
        return [list(stored_pictures(self.result.records)) for _ in requests]


@dataclass(slots=True)
class EarlyResults:
    """Results that came before the step of their own set, by run and request; thread-safe."""

    _run_id: str = ""
    _results: dict[str, Result] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def keep(self, run_id: str, result: Result) -> None:
        """Keep a result for its set's step, which then does not make it itself."""
        with self._lock:
            self._begin(run_id)
            self._results[result.request.request_sha256] = result

    def take(self, run_id: str, request: Request) -> Result | None:
        """Take the result of a request, if it has come already."""
        with self._lock:
            self._begin(run_id)
            return self._results.pop(request.request_sha256, None)

    def _begin(self, run_id: str) -> None:
        # One run at a time takes place in a process; what one before it left is of no use.
        if run_id != self._run_id:
            self._run_id = run_id
            self._results.clear()


EARLY = EarlyResults()
"""Those of this process: both steps of a run are in it, unless its executor starts others."""
