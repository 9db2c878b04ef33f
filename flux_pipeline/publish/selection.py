"""The chosen pictures of a prompt set with their names, alt texts and files, before any is read.

Everything that is wrong with names is found here, so before anything is written: two files of one
path, values of a table that make none.
"""

import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from types import MappingProxyType

from flux_pipeline.errors import ConfigError, Problem, Problems
from flux_pipeline.image_reader import OVER, Current, stored_images
from flux_pipeline.ledger.base import Attempt
from flux_pipeline.lineage.record import ContentCredentials, ImageRecord
from flux_pipeline.prompts import ByDay, PromptSet
from flux_pipeline.prompts.expansion import DATE
from flux_pipeline.prompts.picks import Pick, picks_of
from flux_pipeline.prompts.publication import Publication, picture_values
from flux_pipeline.prompts.templates import parse_template
from flux_pipeline.publish.choice import Decider, picks_by_prompt, split_unmet
from flux_pipeline.publish.feed import feed_path
from flux_pipeline.publish.state import state_path
from flux_pipeline.request import Request

Described = tuple[Request, Mapping[str, str], Attempt | None]
Place = tuple[str, str]
"""Partition and prompt."""
_NOTHING: Mapping[tuple[str, int], Collection[str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenImage:
    """One picture to be published; about 2 KB."""

    name: str
    """In the index, and unique there; see ``published_name``."""
    alt: str
    prompt: str
    """Its text; empty where prompts are not to be published."""
    partition: str
    prompt_name: str
    take: int
    output_index: int
    """0-based."""
    request_sha256: str
    image_sha256: str
    file_sha256: str
    source_uri: str
    made_at: str
    """ISO 8601, UTC."""
    has_sidecar: bool
    """Whether its label lies beside it in the store."""
    paths: tuple[str, ...]
    """Of its files, in the order of ``publish.variants``."""

    @property
    def place(self) -> Place:
        """Partition and prompt."""
        return self.partition, self.prompt_name

    @property
    def source(self) -> tuple[str, int]:
        """Request and output, which name the picture whatever its prompt is called."""
        return self.request_sha256, self.output_index


@dataclass(slots=True)
class Selection:
    """What is to be published of the partitions that were asked for."""

    publication: Publication
    images: list[ChosenImage] = field(default_factory=list)
    """In the order of the file."""
    partitions: frozenset[str] | None = None
    """Those that were looked at; None: all."""
    undecided: list[str] = field(default_factory=list)
    """Prompts of which nothing is chosen; by day ``day/name``."""
    stale: list[Pick] = field(default_factory=list)
    unknown: list[Pick] = field(default_factory=list)
    waiting: list[Pick] = field(default_factory=list)
    """As ``choice.Chosen`` has them."""
    kept: set[Place] = field(default_factory=set)
    """Prompts whose published pictures stay as they are: new ones are not there yet, or weren't
    seen by whoever chose."""
    unmade: set[str] = field(default_factory=set)
    """Partitions of which a request isn't over, or all were refused: more may come of them."""
    is_by_day: bool = False
    taken_down: set[tuple[str, int]] = field(default_factory=set)
    """Pictures that were taken down by hand: their request and output."""
    lost_paths: set[str] = field(default_factory=set)
    """The files that those had."""

    def covers(self, partition: str) -> bool:
        """Whether what was published of a partition before is replaced by this selection."""
        return self.partitions is None or partition in self.partitions


def select_images(
    prompt_set: PromptSet,
    publication: Publication,
    source: Current,
    partitions: Sequence[str] | None,
    every: Sequence[str],
    *,
    taken_down: Mapping[tuple[str, int], Collection[str]] = _NOTHING,
    embeds_prompt: bool = True,
) -> Selection:
    """Choose and name the pictures of these partitions; None: of ``every`` one that has begun.

    ``taken_down``: pictures that are left out, by request and output, and the files that they had.

    Raises:
        ConfigError: Files would have one path, or a path that is none; or picks can't be read.
        LedgerError: The ledger can't be read.
    """
    picks = picks_by_prompt(picks_of(prompt_set))
    decider = Decider(prompt_set, picks)
    namer = Namer(prompt_set, publication, embeds_prompt=embeds_prompt)
    selection = Selection(
        publication,
        partitions=None if partitions is None else frozenset(partitions),
        is_by_day=namer.is_by_day,
        taken_down=set(taken_down),
        lost_paths={path for paths in taken_down.values() for path in paths},
    )
    # A file of picks that isn't there means that nothing is decided yet, and not: away with it all.
    has_picks_file = prompt_set.choice.path is None or prompt_set.choice.path.exists()
    used: set[Pick] = set()
    seen: set[Place] = set()
    asked_for: set[str] = set()
    pictured: set[str] = set()
    prompts: set[str] = set()
    asked = every if partitions is None else partitions
    for place, described in _by_prompt(source.described(asked)):
        records = [
            record
            for request, _, attempt in described
            for record in stored_images(request, attempt)
        ]
        decision = decider.decide(records)
        used.update(decision.used)
        selection.stale += decision.stale
        if records:
            seen.add(place)
            pictured.add(place[0])
        asked_for.add(place[0])
        prompts.add(place[1])
        if any(attempt is None or attempt.state not in OVER for _, _, attempt in described):
            selection.unmade.add(place[0])
        is_held = decision.is_undecided and not decision.chosen
        # Not because somebody took the pick out: it names a picture that isn't there.
        is_mistaken = not has_picks_file or place[1] in picks
        if not records or decision.stale or (is_held and is_mistaken):
            selection.kept.add(place)
        if decision.is_undecided:
            selection.undecided.append("/".join(place) if namer.is_by_day else place[1])
        variables = {request.request_sha256: (request, values) for request, values, _ in described}
        for record in decision.chosen:
            chosen = (record.request_sha256, record.output_index)
            if chosen not in taken_down:
                selection.images.append(namer.name(record, *variables[record.request_sha256]))
    selection.unmade |= asked_for - pictured
    unmet = [pick for found in picks.values() for pick in found if pick not in used]
    unknown, waiting = split_unmet(prompt_set, unmet, seen)
    selection.unknown = list(unknown)
    # Of other partitions nobody asked.
    selection.waiting = [pick for pick in waiting if _is_asked(pick, selection, prompts)]
    namer.problems.raise_if_any()
    return selection


def _is_asked(pick: Pick, selection: Selection, prompts: Collection[str]) -> bool:
    return selection.covers(pick.partition) if pick.partition else pick.prompt in prompts


def _by_prompt(described: Iterator[Described]) -> Iterator[tuple[Place, list[Described]]]:
    for place, found in groupby(described, key=lambda each: _place(each[0])):
        yield place, list(found)


def _place(request: Request) -> Place:
    return request.source.partition, request.source.prompt_name


class Namer:
    """Gives pictures their names and files, and finds those that can't have theirs."""

    def __init__(
        self, prompt_set: PromptSet, publication: Publication, *, embeds_prompt: bool = True
    ) -> None:
        self.problems = Problems()
        """Every path that is none, or another file's too."""
        self.is_by_day = isinstance(prompt_set.partitions, ByDay)
        self._set = prompt_set
        self._publication = publication
        self._embeds_prompt = embeds_prompt
        self._names = parse_template(publication.name).names
        self._taken: dict[str, str] = {
            _alike(path): "an index" for path in index_paths(publication)
        }

    def name(
        self, record: ImageRecord, request: Request, variables: Mapping[str, str]
    ) -> ChosenImage:
        """The picture with its name, alt text and paths."""
        day = request.source.partition if self.is_by_day else ""
        output = record.output_index + 1
        own = picture_values(request, output, day=day)
        paths = tuple(
            self._path(picture_values(request, output, variant=each, day=day), variables)
            for each in self._publication.variants
        )
        has_text = self._embeds_prompt or bool(self._publication.alt)
        alt = self._publication.alt_text(own, variables) if has_text else own["name"]
        made = record.completed_at or record.stored_at
        return ChosenImage(
            name=self._published_name(record, day),
            alt=alt,
            prompt=own["prompt"] if self._embeds_prompt else "",
            partition=request.source.partition,
            prompt_name=request.source.prompt_name,
            take=request.source.take,
            output_index=record.output_index,
            request_sha256=record.request_sha256,
            image_sha256=record.image_sha256 or "",
            file_sha256=record.file_sha256 or "",
            source_uri=record.uri or "",
            made_at=utc(made) if made else "",
            has_sidecar=record.credentials == ContentCredentials.KEPT,
            paths=paths,
        )

    def _published_name(self, record: ImageRecord, day: str) -> str:
        """The prompt's name; with day, take and output where the files' names have them too."""
        parts = [record.prompt_name]
        if day and self._names & {DATE, "partition"}:
            parts.append(day)
        if "take" in self._names:
            parts.append(str(record.take))
        if "output" in self._names:
            parts.append(str(record.output_index + 1))
        return "-".join(parts)

    def _path(self, own: Mapping[str, str], variables: Mapping[str, str]) -> str:
        what = f"{own['name']}, take {own['take']}, output {own['output']}, {own['variant']}"
        if self.is_by_day:
            what = f"{own['partition']}, {what}"
        try:
            path = self._publication.file_path(own, variables)
        except ValueError as error:
            self._add(f"{what}: {error}")
            return ""
        other = self._taken.setdefault(_alike(path), what)
        if other != what:
            self._add(
                f"{path} would be the file of two: {other}; and {what}. Put what tells them apart"
                " into it, such as {take}, {output} or a column of the table"
            )
        return path

    def _add(self, message: str) -> None:
        self.problems.add(self._set.path or self._set.name, 0, "publish.name", message)


def _alike(path: str) -> str:
    """One text for all paths that are one file on a disk that knows no case or one Unicode form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def index_paths(publication: Publication) -> list[str]:
    """The paths of everything that is written beside the pictures."""
    feed = publication.feed
    return [
        f"{publication.index}.json",
        f"{publication.index}.csv",
        state_path(publication.index),
        *([feed_path(publication.index, feed)] if feed else []),
    ]


def utc(time: datetime) -> str:
    """A time as ``2026-11-30T08:15:00Z``."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def publication_of(prompt_set: PromptSet) -> Publication:
    """What the set's ``publish`` says.

    Raises:
        ConfigError: It has none.
    """
    if prompt_set.publish is None:
        message = "is not there: say which variants are published, such as {variants: {web: {}}}"
        raise ConfigError([Problem(prompt_set.path or prompt_set.name, 0, "publish", message)])
    return prompt_set.publish
