"""The chosen pictures of a prompt set with their names, alt texts and files, before any is read.

Everything that is wrong with names is found here, so before anything is written: two files of one
path, values of a table that make none.
"""

import json
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from types import MappingProxyType
from typing import Self

from flux_pipeline.errors import ConfigError, Problem, Problems
from flux_pipeline.image_reader import OVER, Current, stored_images
from flux_pipeline.ledger.base import Attempt
from flux_pipeline.lineage.record import ContentCredentials, ImageRecord
from flux_pipeline.prompts import ByDay, PromptSet
from flux_pipeline.prompts.expansion import DATE
from flux_pipeline.prompts.picks import Pick, picks_of
from flux_pipeline.prompts.publication import Publication, picture_values
from flux_pipeline.prompts.templates import parse_template
from flux_pipeline.publish.choice import Decider, Decision, picks_by_prompt, split_unmet
from flux_pipeline.publish.feed import feed_path
from flux_pipeline.publish.scratch import DiskDict, DiskList, Scratch
from flux_pipeline.publish.state import state_path
from flux_pipeline.request import Request

Described = tuple[Request, Mapping[str, str], Attempt | None]
Place = tuple[str, str]
"""Partition and prompt."""
_NOTHING: Mapping[tuple[str, int], Collection[str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenImage:
    """One picture to be published; about 1 KB."""

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

    def encode(self) -> str:
        """All of it as JSON, for ``decode``."""
        return json.dumps(_values_of(self))

    @classmethod
    def decode(cls, text: str) -> Self:
        """What ``encode`` was given."""
        values = dict(zip(_NAMES, json.loads(text), strict=True))
        return cls(**{**values, "paths": tuple(values["paths"])})


_NAMES = tuple(each.name for each in fields(ChosenImage))
_values_of = attrgetter(*_NAMES)


@dataclass(slots=True)
class Selection:
    """What is to be published of the partitions that were asked for; its pictures lie on disk."""

    publication: Publication
    partitions: frozenset[str] | None = None
    """Those that were looked at; None: all."""
    undecided: list[str] = field(default_factory=list)
    """Prompts of which nothing is chosen; by day ``day/name``."""
    stale: list[Pick] = field(default_factory=list)
    unknown: list[Pick] = field(default_factory=list)
    waiting: list[Pick] = field(default_factory=list)
    nearest: Mapping[str, str] = field(default_factory=dict)
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
    scratch: Scratch = field(default_factory=Scratch, repr=False)
    images: DiskList[ChosenImage] = field(init=False, repr=False)
    """In the order of the file."""
    paths: DiskDict[str] = field(init=False, repr=False)
    """The names of the pictures by the paths of their files."""

    def __post_init__(self) -> None:
        self.images = DiskList(self.scratch, ChosenImage.encode, ChosenImage.decode)
        self.paths = self.scratch.texts()

    def add(self, image: ChosenImage) -> None:
        """Add a picture at the end."""
        self.images.append(image)
        self.paths.add_all((path, image.name) for path in image.paths)

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
        StoreError: Temporary files can't be written.
    """
    selection = Selection(
        publication,
        partitions=None if partitions is None else frozenset(partitions),
        is_by_day=isinstance(prompt_set.partitions, ByDay),
        taken_down=set(taken_down),
        lost_paths={path for paths in taken_down.values() for path in paths},
    )
    namer = Namer(prompt_set, publication, selection.scratch, embeds_prompt=embeds_prompt)
    chooser = _Chooser(prompt_set, selection, namer)
    asked = every if partitions is None else partitions
    for place, described in _by_prompt(source.described(asked)):
        chooser.add(place, described)
    chooser.end()
    namer.problems.raise_if_any()
    return selection


class _Chooser:
    """Fills a selection, prompt by prompt."""

    def __init__(self, prompt_set: PromptSet, selection: Selection, namer: "Namer") -> None:
        self._set = prompt_set
        self._selection = selection
        self._namer = namer
        self._picks = picks_by_prompt(picks_of(prompt_set))
        self._decider = Decider(prompt_set, self._picks)
        path = prompt_set.choice.path
        # A file of picks that isn't there means: nothing is decided yet. It means not: remove all.
        self._has_picks_file = path is None or path.exists()
        self._used: set[Pick] = set()
        self._seen: set[Place] = set()
        """Of the prompts that have picks, those that have pictures."""
        self._picked: set[str] = set()
        """The prompts that have picks and were met."""
        self._asked_for: set[str] = set()
        self._pictured: set[str] = set()

    def add(self, place: Place, described: Sequence[Described]) -> None:
        """Choose of the pictures of one prompt in one partition."""
        selection, (partition, prompt) = self._selection, place
        records = [
            record
            for request, _, attempt in described
            for record in stored_images(request, attempt)
        ]
        decision = self._decider.decide(records)
        self._used.update(decision.used)
        selection.stale += decision.stale
        self._asked_for.add(partition)
        if records:
            self._pictured.add(partition)
        if prompt in self._picks:
            self._picked.add(prompt)
            if records:
                self._seen.add(place)
        if any(attempt is None or attempt.state not in OVER for _, _, attempt in described):
            selection.unmade.add(partition)
        if not records or self._is_held(prompt, decision):
            selection.kept.add(place)
        if decision.is_undecided:
            selection.undecided.append("/".join(place) if selection.is_by_day else prompt)
        variables = {request.request_sha256: (request, values) for request, values, _ in described}
        for record in decision.chosen:
            if (record.request_sha256, record.output_index) not in selection.taken_down:
                selection.add(self._namer.name(record, *variables[record.request_sha256]))

    def _is_held(self, prompt: str, decision: Decision) -> bool:
        """Whether what was published of a prompt stays, although nothing new is chosen."""
        is_undecided = decision.is_undecided and not decision.chosen
        # Not because somebody took the pick out: it names a picture that isn't there.
        is_mistaken = not self._has_picks_file or prompt in self._picks
        return bool(decision.stale) or (is_undecided and is_mistaken)

    def end(self) -> None:
        """Note which partitions have no picture, and which picks name none."""
        selection = self._selection
        selection.unmade |= self._asked_for - self._pictured
        unmet = [pick for found in self._picks.values() for pick in found if pick not in self._used]
        found = split_unmet(self._set, unmet, self._seen)
        selection.unknown, selection.nearest = [*found.unknown], found.nearest
        selection.waiting = [pick for pick in found.waiting if self._is_asked(pick)]

    def _is_asked(self, pick: Pick) -> bool:
        """Whether its picture should be there: of other partitions nobody asked."""
        if pick.partition:
            return self._selection.covers(pick.partition)
        return pick.prompt in self._picked


def _by_prompt(described: Iterator[Described]) -> Iterator[tuple[Place, list[Described]]]:
    for place, found in groupby(described, key=lambda each: _place(each[0])):
        yield place, list(found)


def _place(request: Request) -> Place:
    return request.source.partition, request.source.prompt_name


class Namer:
    """Gives pictures their names and files, and finds those that can't have theirs."""

    def __init__(
        self,
        prompt_set: PromptSet,
        publication: Publication,
        scratch: Scratch,
        *,
        embeds_prompt: bool = True,
    ) -> None:
        self.problems = Problems()
        """Every path that is none, or another file's too."""
        self.is_by_day = isinstance(prompt_set.partitions, ByDay)
        self._set = prompt_set
        self._publication = publication
        self._embeds_prompt = embeds_prompt
        self._names = parse_template(publication.name).names
        self._taken = scratch.texts()
        self._taken.add_all((_alike(path), "an index") for path in index_paths(publication))

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
        key = _alike(path)
        if not self._taken.add(key, what):
            other = self._taken[key]
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
