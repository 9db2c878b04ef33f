"""A prompt set: what a file asks for, as requests, cut into partitions."""

import difflib
import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NoReturn, TypeAlias

from flux_pipeline.errors import ConfigError, Problem, Problems
from flux_pipeline.models import Model, ModelInput, build_request
from flux_pipeline.prompts.checks import Expansion, check
from flux_pipeline.prompts.entries import Entry, SeedRule
from flux_pipeline.prompts.form import Budget, ByDay, ByPrompt, ByShard, Schedule, parse_day
from flux_pipeline.request import Request, Source

Cut: TypeAlias = ByPrompt | ByShard | ByDay


@dataclass(frozen=True, slots=True)
class Selection:
    """Some partitions, or (None) all of them."""

    cut: Cut
    keys: frozenset[str] | None

    @property
    def days(self) -> tuple[str, ...]:
        """The days in order; one empty text where partitions aren't days."""
        if not isinstance(self.cut, ByDay):
            return ("",)
        return (self.cut.start.isoformat(),) if self.keys is None else tuple(sorted(self.keys))

    def wants(self, prompt_name: str) -> bool:
        """Whether a prompt is in any of the partitions."""
        if self.keys is None or isinstance(self.cut, ByDay):
            return True
        return partition_of(self.cut, prompt_name, "") in self.keys


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSet:
    """One file's prompts with everything that was said about them, checked.

    Made by ``load_prompt_sets``, ``load_prompt_set`` and ``build_prompt_set``.
    """

    name: str
    """``[a-z0-9][a-z0-9_]*``: fit for the name of an asset."""
    path: str
    """The file as it was given; empty where there is none."""
    config_sha256: str
    """64 hex digits of the file's bytes and its tables' checksums; without tables, of the file."""
    description: str
    model: Model
    version: str
    """64 hex digits: the model's own, or what the file says."""
    owners: tuple[str, ...]
    tags: Mapping[str, str] = field(hash=False)
    partitions: Cut
    schedule: Schedule | None
    budget: Budget
    automation: str
    """``on_change``, ``on_schedule`` or ``none``."""
    warnings: tuple[Problem, ...]
    """What is allowed and perhaps not meant; of the first rows only where not ``is_checked``."""
    prompt_names: tuple[str, ...] = field(repr=False)
    """With partitions by prompt, all of them in the order of the file; otherwise empty."""
    is_checked: bool
    """Whether every row was looked at on loading: False with a table over 2 MiB."""
    expansion: Expansion = field(repr=False, hash=False)

    def partition_keys(self) -> tuple[str, ...]:
        """The partitions' names, in order; empty with partitions by day, which never end."""
        if isinstance(self.partitions, ByShard):
            return tuple(shard_key(index) for index in range(self.partitions.count))
        return self.prompt_names

    def requests(self, partitions: str | Collection[str] | None = None) -> Iterator[Request]:
        """The requests of one partition, of several, or (None) of all, streamed in file order.

        Several partitions cost one pass over the tables, and come mixed: each request names its own
        in ``source.partition``. What wasn't checked on loading is checked here, whole, before the
        first request comes. With partitions by day the days must be named.

        Raises:
            ConfigError: no such partition; or a table is wrong, or changed since it was loaded.
        """
        selection = self._select(partitions)
        if isinstance(self.partitions, ByDay) and partitions is None:
            self._fail("partitions", "are days: name those that are meant, as YYYY-MM-DD")
        self._refuse_changed_tables()
        if not self.is_checked:
            self._check(selection)
        return self._requests(selection)

    def check(self, partitions: str | Collection[str] | None = None) -> tuple[Problem, ...]:
        """Look at every row of the partitions, however many; return the warnings.

        Raises:
            ConfigError: with everything that is wrong.
        """
        return self._check(self._select(partitions))

    def data_versions(self, partitions: Collection[str]) -> dict[str, str]:
        """A hash of each partition's requests, 64 hex digits, in one pass over the tables.

        It depends on the requests alone, and not on their order: an edit changes the partitions
        that it touches and no other.
        """
        keys = [partitions] if isinstance(partitions, str) else partitions
        sums = dict.fromkeys(keys, 0)
        for request in self.requests(keys):
            # A sum needs no memory and no order; what comes twice counts twice.
            sums[request.source.partition] += int(request.request_sha256, 16)
        return {key: hashlib.sha256(b"%d" % total).hexdigest() for key, total in sums.items()}

    def data_version(self, partition: str) -> str:
        """As ``data_versions``, of one partition."""
        return self.data_versions([partition])[partition]

    def line_of(self, prompt_name: str) -> int:
        """The line of the file where a prompt stands, a variant's at its key; 0 if unknown."""
        keys = [
            entry.key
            for entry in self.expansion.entries
            if prompt_name == entry.key or prompt_name.startswith(f"{entry.key}-")
        ]
        return self.expansion.document.line("prompts", max(keys, key=len)) if keys else 0

    def names_in(self, partition: str | None) -> Iterator[str]:
        """The prompts' names, streamed; of one partition, or of all where they are no such cut.

        Nothing is checked: what is wrong with a table is left out.
        """
        for _, variant in self.expansion.variants(Problems()):
            here = partition_of(self.partitions, variant.name, partition or "")
            if partition is None or here == partition:
                yield variant.name

    def _requests(self, selection: Selection) -> Iterator[Request]:
        # All of this was checked: a problem here means that a table changes under our hands.
        problems = Problems()
        for day in selection.days:
            for entry, variant in self.expansion.variants(problems):
                if selection.wants(variant.name):
                    values = self.expansion.checked_input(entry, variant, day, problems)
                    if values is not None:
                        yield from self._takes(entry, variant.name, values, day)
                problems.raise_if_any()
            problems.raise_if_any()

    def _takes(self, entry: Entry, name: str, values: ModelInput, day: str) -> Iterator[Request]:
        partition = partition_of(self.partitions, name, day)
        for take in range(1, entry.takes + 1):
            if entry.seed is SeedRule.DERIVED:
                seeded = values.with_seed(derived_seed(self.name, name, take, day))
            elif entry.seed is SeedRule.GIVEN:
                seeded = values.with_seed((values.seed or 0) + take - 1)
            else:
                seeded = values
            source = Source(self.name, name, take, partition, self.path, self.config_sha256)
            yield build_request(self.model, seeded, source, version=self.version)

    def _check(self, selection: Selection) -> tuple[Problem, ...]:
        warnings = Problems()
        for day in selection.days:
            findings = check(self.expansion, day=day, wants=selection.wants)
            findings.problems.raise_if_any()
            warnings.add_all(findings.warnings.as_tuple())
        return warnings.as_tuple()

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

    def _fail(self, key: str, message: str) -> NoReturn:
        raise ConfigError([Problem(self.path or self.name, 0, key, message)])


def partition_of(cut: Cut, prompt_name: str, day: str) -> str:
    """The partition of a prompt; with partitions by day, the day itself."""
    if isinstance(cut, ByShard):
        return shard_key(shard_of(prompt_name, cut.count))
    return day if isinstance(cut, ByDay) else prompt_name


def select(cut: Cut, known: Collection[str], partitions: str | Collection[str] | None) -> Selection:
    """The selection of one partition, of several or of all; ``known`` are the keys, if not days.

    Raises:
        ValueError: no such partition; names the nearest.
    """
    if partitions is None:
        return Selection(cut, None)
    keys = frozenset([partitions] if isinstance(partitions, str) else partitions)
    known = frozenset(known)
    for key in sorted(keys):
        if isinstance(cut, ByDay):
            if parse_day(key) < cut.start:
                raise ValueError(f"{key} is before the first day, {cut.start}")
        elif key not in known:
            near = difflib.get_close_matches(key, known, n=3)
            hint = f"near it: {', '.join(near)}" if near else f"{len(known)} others exist"
            raise ValueError(f"no partition {key}; {hint}")
    return Selection(cut, keys)


def shard_of(prompt_name: str, count: int) -> int:
    """The index of the prompt's shard, 0 to ``count`` - 1; the same on every machine."""
    digest = hashlib.sha256(prompt_name.encode()).digest()
    return int.from_bytes(digest[:8], "big") % count


def shard_key(index: int) -> str:
    """The partition key of a shard, such as ``shard-0007``."""
    return f"shard-{index:04d}"


def derived_seed(prompt_set: str, prompt_name: str, take: int, date: str = "") -> int:
    """A seed of 31 bits that depends on these four alone: stable over machines and versions.

    ``date`` is ``YYYY-MM-DD`` where partitions are days and empty elsewhere; how a set is cut
    into prompts or shards changes no seed.
    """
    text = "\0".join((prompt_set, prompt_name, str(take), date))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
