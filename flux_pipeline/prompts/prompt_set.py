"""A loaded prompt set: its partitions, and the requests and seeds of each.

Every request has a seed of its own where the model takes one. A model without a given seed draws
one of only 65,536, and a create whose reply was lost can be found in the provider's list only if no
other request has the same input.
"""

import difflib
import hashlib
import struct
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NoReturn, TypeAlias

from flux_pipeline.errors import ConfigError, Problem, Problems
from flux_pipeline.models import Model
from flux_pipeline.prompts.chain import PictureLookup, PlannedPictures, Sources
from flux_pipeline.prompts.checked_partitions import Checked, CheckedPartitions, Collector
from flux_pipeline.prompts.checks import Check, Selected
from flux_pipeline.prompts.drafts import Draft, is_seeded
from flux_pipeline.prompts.expansion import AreWanted, Entry, Expansion, Variant
from flux_pipeline.prompts.inputs import CheckedInput, InputChecker
from flux_pipeline.prompts.publication import Choice, Publication
from flux_pipeline.prompts.schema import Budget, ByDay, ByPrompt, ByShard, Schedule, parse_day
from flux_pipeline.request import Request

Partitioning: TypeAlias = ByPrompt | ByShard | ByDay
"""How a set is divided into partitions."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The partitions asked for; all of them where ``keys`` is None."""

    partitioning: Partitioning
    keys: frozenset[str] | None

    @property
    def days(self) -> tuple[str, ...]:
        """The days in order; one empty text where partitions aren't days."""
        if not isinstance(self.partitioning, ByDay):
            return ("",)
        if self.keys is None:
            return (self.partitioning.start.isoformat(),)
        return tuple(sorted(self.keys))

    def filter(self) -> Selected | None:
        """Whether a prompt is in any of the partitions, by its names; None: all are."""
        keys = self.keys
        if keys is None or isinstance(self.partitioning, ByDay):
            return None
        if not isinstance(self.partitioning, ByShard):
            return _Named(keys)
        count = self.partitioning.count
        indexes = frozenset(index for index in range(count) if shard_key(index) in keys)
        return _InShards(count, indexes)


@dataclass(frozen=True, slots=True)
class _Named:
    """The prompts of these names."""

    names: frozenset[str]

    def __call__(self, name: str, stable: str) -> bool:
        del stable
        return name in self.names

    def many(self, names: Sequence[str], stable: Sequence[str]) -> Sequence[bool]:
        del stable
        return [name in self.names for name in names]


@dataclass(frozen=True, slots=True)
class _InShards:
    """The prompts of the shards of these indexes."""

    count: int
    indexes: frozenset[int]

    def __call__(self, name: str, stable: str) -> bool:
        return shard_of(stable or name, self.count) in self.indexes

    def many(self, names: Sequence[str], stable: Sequence[str]) -> Sequence[bool]:
        del names
        # As shard_of, without a call for each row of a large table.
        sha256, first_8_bytes = hashlib.sha256, _FIRST_8_BYTES.unpack_from
        numbers = [first_8_bytes(sha256(name.encode()).digest())[0] for name in stable]
        return [number % self.count in self.indexes for number in numbers]


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSet:
    """The prompts of one file with their settings, checked.

    Made by ``load_prompt_sets``, ``load_prompt_set`` and ``build_prompt_set``.
    """

    name: str
    """``[a-z0-9][a-z0-9_]*``: fit for the name of an asset."""
    path: str
    """The file's path as it was given; empty where there is none."""
    config_sha256: str
    """64 hex digits of the file's bytes and its tables' checksums; without tables, of the file."""
    description: str
    model: Model
    """The set's own, or the first of those that its prompts compare."""
    version: str
    """That of ``model``: 64 hex digits, or ``official``."""
    owners: tuple[str, ...]
    tags: Mapping[str, str] = field(hash=False)
    partitions: Partitioning
    schedule: Schedule | None
    budget: Budget
    automation: str
    """``on_change``, ``on_schedule`` or ``none``."""
    warnings: tuple[Problem, ...]
    """What is allowed but perhaps not meant; only of the first rows where not ``is_checked``."""
    prompt_names: tuple[str, ...] = field(repr=False)
    """With partitions by prompt, all of them in the order of the file; otherwise empty."""
    is_checked: bool
    """Whether every row was looked at on loading: False with a table over 2 MiB."""
    expansion: Expansion = field(repr=False, hash=False)
    sources: Mapping[str, "PromptSet"] = field(default_factory=dict, repr=False, hash=False)
    """The sets whose pictures this one is made for, by name."""
    follows: "PromptSet | None" = field(default=None, repr=False, hash=False)
    """The one of them whose partitions it has; None where it is cut by its own keys."""
    choice: Choice = field(default_factory=Choice)
    """Which of its pictures are published."""
    publish: Publication | None = None
    """Where they are published, and how; None: nowhere."""

    @property
    def models(self) -> tuple[Model, ...]:
        """Every model that its prompts are made with."""
        return tuple(
            dict.fromkeys(model for entry in self.expansion.entries for model in entry.models)
        )

    def partition_keys(self) -> tuple[str, ...]:
        """The partitions' names, in order; empty with partitions by day, which never end."""
        if isinstance(self.partitions, ByShard):
            return tuple(shard_key(index) for index in range(self.partitions.count))
        return self.prompt_names

    def requests(
        self,
        partitions: str | Collection[str] | None = None,
        on_warning: Callable[[Problem], None] | None = None,
        *,
        pictures: PictureLookup | None = None,
    ) -> Iterator[Request]:
        """The requests of one partition, of several, or (None) of all, streamed in file order.

        Several partitions cost one pass over the tables, and come mixed: each request names its own
        in ``source.partition``. What wasn't checked on loading is checked here, whole, before the
        first request comes, and its warnings go to ``on_warning``. With partitions by day the days
        must be named. Of a set that is made for pictures of others, ``pictures`` finds those;
        without it all are planned, and a request that names a planned one can't be sent.

        Raises:
            ConfigError: no such partition; or a table is wrong, or changed since it was loaded.
        """
        return map(Draft.request, self._drafts(partitions, on_warning, pictures))

    def described(
        self,
        partitions: str | Collection[str] | None = None,
        on_warning: Callable[[Problem], None] | None = None,
        *,
        pictures: PictureLookup | None = None,
    ) -> Iterator[tuple[Request, Mapping[str, str]]]:
        """As ``requests``, each with the values of its prompt's placeholders.

        They are those of the matrix, of the source picture and of the columns that a prompt, the
        names or the alt texts of published files use.

        Raises:
            ConfigError: as ``requests``.
        """
        drafts = self._drafts(partitions, on_warning, pictures)
        return ((draft.request(), draft.variant.variables) for draft in drafts)

    def drafts(
        self,
        partitions: str | Collection[str] | None = None,
        on_warning: Callable[[Problem], None] | None = None,
        *,
        pictures: PictureLookup | None = None,
    ) -> Iterator[Draft]:
        """Drafts of ``requests``, in one pass over the tables: for sums, and never for sending.

        Of a large table some drafts come before it is known that a later row, or the whole, is
        wrong: ConfigError is raised at the end then, and warnings are told there.
        """
        selection = self._select(partitions)
        if self.is_checked or self.sources or _CHECKED.cover(self, selection.keys):
            yield from self._drafts(partitions, on_warning, pictures)
            return
        self._refuse_unnamed_days(partitions)
        self._refuse_changed_tables()
        checking = self._checking(selection)
        while True:
            try:
                entry, variant, checked, day = next(checking)
            except StopIteration as end:
                _CHECKED.add(end.value)
                for warning in end.value.warnings:
                    if on_warning is not None:
                        on_warning(warning)
                return
            yield from self._takes(entry, variant, checked, day)

    def _drafts(
        self,
        partitions: str | Collection[str] | None,
        on_warning: Callable[[Problem], None] | None,
        pictures: PictureLookup | None,
    ) -> Iterator[Draft]:
        """Drafts of what was checked before, whole, or is checked now."""
        selection = self._select(partitions)
        self._refuse_unnamed_days(partitions)
        self._refuse_changed_tables()
        known: Sequence[_Prompt] | None = None
        if not self.is_checked:
            checked = self._checked(selection, with_warnings=on_warning is not None)
            known = checked.prompts
            for warning in checked.warnings:
                if on_warning is not None:
                    on_warning(warning)
        if known is not None:
            return self._remembered(known)
        return self._as_checked(selection, pictures or PlannedPictures())

    def check(self, partitions: str | Collection[str] | None = None) -> tuple[Problem, ...]:
        """Look at every row of the partitions, however many; return the warnings.

        Raises:
            ConfigError: with everything that is wrong.
        """
        return self._check(self._select(partitions)).warnings

    def data_versions(
        self,
        partitions: Collection[str],
        on_draft: Callable[[Draft], None] | None = None,
    ) -> dict[str, str]:
        """A hash of each partition's requests, 64 hex digits, in one pass over the tables.

        It depends on the requests alone, and not on their order: an edit changes the partitions
        that it touches and no other. ``on_draft`` is given each draft, for sums of its own.
        """
        keys = [partitions] if isinstance(partitions, str) else partitions
        sums = dict.fromkeys(keys, 0)
        for draft in self.drafts(keys):
            # A sum needs no memory and no order, and counts a repeated request twice.
            sums[draft.partition] += int(draft.fingerprint(), 16)
            if on_draft is not None:
                on_draft(draft)
        return {key: hashlib.sha256(b"%d" % total).hexdigest() for key, total in sums.items()}

    def data_version(self, partition: str) -> str:
        """As ``data_versions``, of one partition."""
        return self.data_versions([partition])[partition]

    def names_in(self, partition: str | None) -> Iterator[str]:
        """The prompts' names, streamed: of one partition, or (None) of all.

        Nothing is checked: rows that can't be used are left out.
        """
        return (variant.name for variant in self._variants_in(partition))

    def all_names(self) -> set[str]:
        """Every name that a picture of this set may have in lineage, also from earlier releases."""
        names = {name for each in self._variants_in(None) for name in (each.name, each.stable_name)}
        return names - {""}

    def _variants_in(self, partition: str | None) -> Iterator[Variant]:
        day = partition if isinstance(self.partitions, ByDay) else None
        keys = None if partition is None else frozenset([partition])
        sources = self._sources(Selection(self.partitions, keys), day or "")
        for _, variant in self.expansion.variants(Problems(), sources=sources):
            its_partition = partition_of(self.partitions, variant, partition or "")
            if self.follows is not None and variant.source is not None:
                its_partition = variant.source.request.source.partition
            if partition is None or its_partition == partition:
                yield variant

    def followers(self, made: Request, lookup: PictureLookup) -> Iterator[Request]:
        """The requests that follow from one request of a set before this one.

        They are those that ``requests`` gives with the same lookup, of that one request alone.
        """
        problems = Problems()
        day = made.source.partition if isinstance(self.partitions, ByDay) else ""
        name = made.source.prompt_set
        sources = Sources({name: _Single(made)}, None, lookup)
        inputs = InputChecker(self.expansion, problems, day)
        for entry, variant in self.expansion.variants(problems, sources=sources):
            if entry.each is not None and entry.each.prompt_set == name:
                checked = inputs.check(entry, variant)
                if checked is not None:
                    yield from map(Draft.request, self._takes(entry, variant, checked, day))
        problems.raise_if_any()

    def _sources(
        self, selection: Selection, day: str, lookup: PictureLookup | None = None
    ) -> Sources:
        """The pictures that the prompts of a selection are made for."""
        keys: Collection[str] | None = None
        if self.follows is not None:
            keys = [day] if day else selection.keys
        return Sources(self.sources, keys, lookup or PlannedPictures())

    def _filter(self, selection: Selection) -> Selected | None:
        # Of a set that follows another one, the source pictures are those of the partitions.
        return None if self.follows is not None else selection.filter()

    def _remembered(self, known: "Sequence[_Prompt]") -> Iterator[Draft]:
        problems = Problems()
        inputs = InputChecker(self.expansion, problems)
        for entry, variant, checked in known:
            # A picture's file may have become another one since.
            now = inputs.check(entry, variant) if checked.form.pictures else checked
            problems.raise_if_any()
            if now is not None:
                yield from self._takes(entry, variant, now, "")

    def _as_checked(self, selection: Selection, lookup: PictureLookup) -> Iterator[Draft]:
        # All of this was checked: a problem here means that a table is being changed.
        problems = Problems()
        is_asked = self._filter(selection)

        are_wanted: AreWanted | None = None
        if is_asked is not None:
            are_wanted = lambda _entry, names, stable: is_asked.many(names, stable)  # noqa: E731

        for day in selection.days:
            sources = self._sources(selection, day, lookup)
            inputs = InputChecker(self.expansion, problems, day)
            expanded = self.expansion.variants(problems, sources=sources, are_wanted=are_wanted)
            for entry, variant in expanded:
                if is_asked is None or is_asked(variant.name, variant.stable_name):
                    checked = inputs.check(entry, variant)
                    if checked is not None:
                        yield from self._takes(entry, variant, checked, day)
                problems.raise_if_any()
            problems.raise_if_any()

    def _takes(
        self, entry: Entry, variant: Variant, checked: CheckedInput, day: str
    ) -> Sequence[Draft]:
        partition = partition_of(self.partitions, variant, day)
        if self.follows is not None and variant.source is not None:
            partition = variant.source.request.source.partition
        version = self.version if variant.model is self.model else None
        form = checked.form.requests(version, is_seeded=is_seeded(entry, variant))
        return [
            Draft(form, entry, variant, checked, self, partition, day, take)
            for take in range(1, entry.takes + 1)
        ]

    def _checked(self, selection: Selection, *, with_warnings: bool) -> "_Checked":
        """Check the selection, unless that was done before; without warnings among others too."""
        keys = selection.keys
        if self.sources:  # what they ask for may change, and is in none of this set's tables
            return self._check(selection)
        if found := _CHECKED.find(self, keys):
            return found
        if not with_warnings and _CHECKED.cover(self, keys):
            return Checked(self, keys, ())
        checked = self._check(selection)
        _CHECKED.add(checked)
        return checked

    def _check(self, selection: Selection) -> "_Checked":
        checking = self._checking(selection)
        while True:
            try:
                next(checking)
            except StopIteration as end:
                checked: _Checked = end.value
                return checked

    def _checking(
        self, selection: Selection
    ) -> "Generator[tuple[Entry, Variant, CheckedInput, str], None, _Checked]":
        """The prompts that can be used, with their day, as they are checked; then what came of it.

        Raises ConfigError at the end of a day of which anything is wrong.
        """
        warnings = Problems()
        prompts: Collector[_Prompt] = Collector()
        # All prompts of a set are too many to keep, and so are those of a day, which has all.
        is_part = selection.keys is not None and not isinstance(self.partitions, ByDay)
        for day in selection.days:
            sources = self._sources(selection, day)
            check = Check(self.expansion, day, self._filter(selection), sources)
            for entry, variant, checked in check.prompts():
                if is_part:
                    prompts.add((entry, variant, checked))
                yield entry, variant, checked, day
            check.report.problems.raise_if_any()
            warnings.add_all(check.report.warnings.as_tuple())
        found = prompts.found if is_part and not self.sources else None
        return Checked(self, selection.keys, warnings.as_tuple(), found)

    def _select(self, partitions: str | Collection[str] | None) -> Selection:
        try:
            return select(self.partitions, self.partition_keys(), partitions)
        except ValueError as error:
            self._fail("partitions", str(error))

    def _refuse_changed_tables(self) -> None:
        for entry in self.expansion.entries:
            if entry.table is not None and not entry.table.is_unchanged():
                message = f"{entry.table.path} changed since it was loaded: load it again"
                self._fail(f"prompts.{entry.key}.table", message)

    def _refuse_unnamed_days(self, partitions: str | Collection[str] | None) -> None:
        if isinstance(self.partitions, ByDay) and partitions is None:
            self._fail("partitions", _NAME_DAYS)

    def _fail(self, key: str, message: str) -> NoReturn:
        raise ConfigError([Problem(self.path or self.name, 0, key, message)])


_NAME_DAYS = "are days: name those that are meant, as YYYY-MM-DD"
_Prompt: TypeAlias = tuple[Entry, Variant, CheckedInput]
_Checked: TypeAlias = Checked[PromptSet, _Prompt]
_CHECKED: CheckedPartitions[PromptSet, _Prompt] = CheckedPartitions()


def in_order(prompt_sets: Iterable[PromptSet]) -> list[PromptSet]:
    """The sets such that each comes after those that it is made for; else in their own order."""
    left = {each.name: each for each in prompt_sets}
    ordered: list[PromptSet] = []

    def add(one: PromptSet) -> None:
        for name in one.sources:
            if name in left:
                add(left[name])
        if left.pop(one.name, None) is not None:
            ordered.append(one)

    for each in list(left.values()):
        add(each)
    return ordered


def all_followers(first: PromptSet, prompt_sets: Iterable[PromptSet]) -> list[PromptSet]:
    """The sets that are made for the pictures of ``first``, or for those of one that is."""
    known = {first.name}
    found = []
    for each in in_order(each for each in prompt_sets if each.sources):
        if each.name != first.name and not known.isdisjoint(each.sources):
            known.add(each.name)
            found.append(each)
    return found


def group_by_chain(prompt_sets: Iterable[PromptSet]) -> list[list[PromptSet]]:
    """The sets in groups that share their partitions: each set with those that follow it, in order.

    A set whose source is not among them begins a group of its own.
    """
    groups: dict[str, list[PromptSet]] = {}
    root_of: dict[str, str] = {}
    for each in in_order(prompt_sets):
        source = "" if each.follows is None else each.follows.name
        root = root_of.setdefault(each.name, root_of.get(source, each.name))
        groups.setdefault(root, []).append(each)
    return list(groups.values())


@dataclass(frozen=True, slots=True)
class _Single:
    """One request as the whole of a set."""

    request: Request
    models: tuple[Model, ...] = ()

    def requests(
        self,
        partitions: Collection[str] | None = None,
        *,
        pictures: PictureLookup | None = None,
    ) -> Iterator[Request]:
        """See ``PromptSet.requests``."""
        del partitions, pictures
        yield self.request


def partition_of(partitioning: Partitioning, variant: Variant, day: str) -> str:
    """The partition of a prompt; with partitions by day, the day itself."""
    if isinstance(partitioning, ByShard):
        return shard_key(shard_of(variant.stable_name or variant.name, partitioning.count))
    return day if isinstance(partitioning, ByDay) else variant.name


def select(
    partitioning: Partitioning, known: Collection[str], partitions: str | Collection[str] | None
) -> Selection:
    """The selection of one partition, of several or of all; ``known`` are the keys, if not days.

    Raises:
        ValueError: no such partition; names the nearest.
    """
    if partitions is None:
        return Selection(partitioning, None)
    keys = frozenset([partitions] if isinstance(partitions, str) else partitions)
    known = frozenset(known)
    for key in sorted(keys):
        if isinstance(partitioning, ByDay):
            if parse_day(key) < partitioning.start:
                raise ValueError(f"{key} is before the first day, {partitioning.start}")
        elif key not in known:
            near = difflib.get_close_matches(key, known, n=3)
            hint = f"near it: {', '.join(near)}" if near else f"{len(known)} others exist"
            raise ValueError(f"no partition {key}; {hint}")
    if len(keys) == len(known) and not isinstance(partitioning, ByDay):
        return Selection(partitioning, None)  # nothing has to be picked
    return Selection(partitioning, keys)


def shard_of(stable_name: str, count: int) -> int:
    """The index of the prompt's shard, 0 to ``count`` - 1; the same on every machine."""
    [number] = _FIRST_8_BYTES.unpack_from(hashlib.sha256(stable_name.encode()).digest())
    return int(number) % count


_FIRST_8_BYTES = struct.Struct(">Q")


@lru_cache(maxsize=10_000)
def shard_key(index: int) -> str:
    """The partition key of a shard, such as ``shard-0007``."""
    return f"shard-{index:04d}"
