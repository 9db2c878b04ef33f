"""Reads the images that were made of a prompt set: lazily, from the ledger or the lineage table.

``read_images`` needs no Dagster. An asset downstream gets the same ``Images`` from Dagster, through
``defs.io_manager``.
"""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from flux_pipeline.errors import ConfigError, Problem, StoreError
from flux_pipeline.iteration import batched
from flux_pipeline.ledger.base import Attempt, Ledger, State
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.lineage.query import Condition, equals, open_snapshot
from flux_pipeline.lineage.record import (
    ImageRecord,
    ImageStatus,
    records_from_json,
    reproduction_partition,
)
from flux_pipeline.lineage.schema import SCHEMA, batch_to_records
from flux_pipeline.produce.source_pictures import LedgerPictures
from flux_pipeline.prompts import ByDay, PromptSet, load_prompt_set, load_prompt_sets
from flux_pipeline.request import Request
from flux_pipeline.settings import Settings
from flux_pipeline.store.base import Store
from flux_pipeline.store.open import open_store

_BATCH = 500
"""Requests that are looked up at once, and records in memory at most, about 2 KB each."""
_REPRODUCED = reproduction_partition("")
"""How the partitions of images that were made again for a comparison begin."""
OVER = frozenset({State.STORED, State.REFUSED})
"""A request in another state is not over: its partition has to be run again."""


class HasPromptSet(Protocol):
    """Something that holds a prompt set, such as the component ``flux_pipeline.PromptSet``."""

    @property
    def prompt_set(self) -> PromptSet:
        """The loaded prompt set."""
        ...


def read_images(
    prompt_set: str | Path | PromptSet | HasPromptSet,
    partition: str | Collection[str] | None = None,
    *,
    store: Store | str | None = None,
) -> "Images":
    """Read the images of one prompt set: of one partition, of several, or of all.

    ``prompt_set`` is the name of one in the folder of FLUX_CONFIGS, the path of its file, or a
    loaded one. Given are the images of its prompts as they are now, in the order of the file,
    found through the ledger of FLUX_LEDGER in the store of FLUX_STORE.

    With ``store`` (an open one, or its URI) nothing but that store is needed: every image is given
    that the lineage table there records under this name, the newest first. The trap: also those of
    prompts that were edited or removed since.

    Nothing is read but the table and rows; a picture is, when it is asked for.

    Raises:
        ConfigError: There is no such prompt set, or no such partition.
        StoreError: The store's URI is none, or it can't be read.
        LedgerError: The ledger can't be read.
    """
    keys = [partition] if isinstance(partition, str) else partition
    if store is not None:
        opened = open_store(store) if isinstance(store, str) else store
        name = prompt_set if isinstance(prompt_set, str) else find_prompt_set(prompt_set).name
        return Images(name, opened, Recorded(opened, name), keys)
    settings = Settings.of_process(os.environ)
    found = find_prompt_set(prompt_set, settings)
    return current_images(found, keys, open_store(settings.store), settings.ledger)


def current_images(
    prompt_set: PromptSet, partitions: Collection[str] | None, store: Store, ledger: str
) -> "Images":
    """The images of a set's prompts as they are now; ``ledger`` is the ledger's URL.

    Raises:
        ConfigError: There is no such partition.
    """
    begun = begun_partitions(prompt_set)
    keys = begun if partitions is None else _in_order(partitions, begun)
    prompt_set.requests(keys)  # refuses a partition that does not exist
    source = Current(prompt_set, lambda: open_ledger(ledger))
    return Images(prompt_set.name, store, source, keys)


def _in_order(partitions: Collection[str], begun: Sequence[str]) -> Sequence[str]:
    """Dagster gives the partitions of a run in no order."""
    places = {key: place for place, key in enumerate(begun)}
    return sorted(partitions, key=lambda key: places.get(key, len(places)))


def find_prompt_set(
    named: str | Path | PromptSet | HasPromptSet, settings: Settings | None = None
) -> PromptSet:
    """The prompt set of this name in the folder of FLUX_CONFIGS, of this file, or of this object.

    Raises:
        ConfigError: There is none, or a file is wrong.
    """
    if isinstance(named, PromptSet):
        return named
    if isinstance(named, Path):
        return load_prompt_set(named)
    if not isinstance(named, str):
        return named.prompt_set
    folder = (settings or Settings.of_process(os.environ)).configs
    sets = {each.name: each for each in load_prompt_sets(folder)}
    if named not in sets:
        message = f"has no prompt set {named}; it has {', '.join(sets) or 'none'}"
        raise ConfigError([Problem(str(folder), 0, "", message)])
    return sets[named]


def begun_partitions(prompt_set: PromptSet) -> Sequence[str]:
    """Every partition of a set; where it is made by day, the days up to today."""
    cut = prompt_set.partitions
    if not isinstance(cut, ByDay):
        return prompt_set.partition_keys()
    today = datetime.now(ZoneInfo(cut.timezone)).date()
    days = range((today - cut.start).days + 1)
    return [(cut.start + timedelta(day)).isoformat() for day in days]


@dataclass(frozen=True, slots=True)
class Image:
    """One stored image. Its bytes are read when they are asked for, and not kept."""

    record: ImageRecord
    """Where it comes from: prompt, model, seed, run, size, hashes and cost."""
    partition: str
    store: Store = field(repr=False, compare=False)

    @property
    def uri(self) -> str:
        """``file:///folder/…`` or ``s3://bucket/…``."""
        return self.record.uri or ""

    @property
    def path(self) -> Path | None:
        """The file; None where the store is no folder."""
        address = urlsplit(self.uri)
        return Path(unquote(address.path)) if address.scheme == "file" else None

    @property
    def bytes(self) -> bytes:
        """The stored file.

        Raises:
            StoreError: It is not there, or lies in another store than this one.
        """
        key = self.uri.removeprefix(f"{self.store.uri}/")
        if key == self.uri:
            raise StoreError(f"{self.uri}: lies in another store than {self.store.uri}")
        return self.store.get(key)

    def open(self) -> BinaryIO:
        """The stored file, open for reading from its beginning. Raises as ``bytes``."""
        return BytesIO(self.bytes)


class Source(Protocol):
    """Where ``Images`` finds records."""

    def made(self, partitions: Collection[str] | None) -> Sequence[str]:
        """Those of these partitions that are there, in their order; None is any."""
        ...

    def records(self, partitions: Collection[str]) -> Iterator[tuple[str, ImageRecord]]:
        """The stored images of these partitions, each with its partition."""
        ...


class Images:
    """The images of some partitions of a prompt set; iterate it as often as you like.

    Every iteration looks anew, and holds at most 500 records, never a picture.
    """

    def __init__(
        self,
        prompt_set: str,
        store: Store,
        source: Source,
        asked: Collection[str] | None = None,
    ) -> None:
        self.prompt_set = prompt_set
        self.store = store
        self._source = source
        self._asked = asked

    def __repr__(self) -> str:
        return f"Images({self.prompt_set!r}, {len(self.partitions)} partitions)"

    def __iter__(self) -> Iterator[Image]:
        for partition, record in self._source.records(self.partitions):
            yield Image(record, partition, self.store)

    @cached_property
    def partitions(self) -> tuple[str, ...]:
        """The partitions asked for that are there: every image of them is stored or refused."""
        return tuple(self._source.made(self._asked))

    @property
    def missing(self) -> tuple[str, ...]:
        """The partitions asked for that are not there: failed, or never made. Iterating skips them.

        Empty where all that is recorded was asked for.
        """
        there = frozenset(self.partitions)
        return tuple(key for key in self._asked or () if key not in there)

    def of(self, partition: str) -> "Images":
        """The images of one of these partitions."""
        return Images(self.prompt_set, self.store, self._source, [partition])


@dataclass(frozen=True, slots=True)
class Current:
    """Images of the prompts as they are now, by their requests' latest attempts in the ledger."""

    prompt_set: PromptSet
    open_ledger: Callable[[], AbstractContextManager[Ledger]]

    def made(self, partitions: Collection[str] | None) -> Sequence[str]:
        """Those whose requests are all over, with an image, or which have no request."""
        asked = list(begun_partitions(self.prompt_set) if partitions is None else partitions)
        kept = dict.fromkeys(asked, 0)
        empty, open_ones = set(asked), set()
        for request, attempt in self._attempts(asked):
            partition = request.source.partition
            empty.discard(partition)
            if attempt is None or attempt.state not in OVER:
                open_ones.add(partition)
            else:
                kept[partition] += sum(1 for _ in stored_images(request, attempt))
        return [key for key in asked if key not in open_ones and (kept[key] or key in empty)]

    def records(self, partitions: Collection[str]) -> Iterator[tuple[str, ImageRecord]]:
        """In the order of the file."""
        for request, attempt in self._attempts(partitions):
            for record in stored_images(request, attempt):
                yield request.source.partition, record

    def described(
        self, partitions: Collection[str]
    ) -> Iterator[tuple[Request, Mapping[str, str], Attempt | None]]:
        """Every request of these partitions, also of those that are not all there.

        Each comes with the values of its prompt's placeholders and its latest attempt, in the order
        of the file; the takes of a prompt follow one another.
        """
        with self.open_ledger() as ledger:
            pictures = LedgerPictures(ledger)
            described = self.prompt_set.described(partitions, pictures=pictures)
            for batch in batched(described, _BATCH):
                latest = ledger.find([request.request_sha256 for request, _ in batch])
                for request, values in batch:
                    yield request, values, latest.get(request.request_sha256)

    def _attempts(self, partitions: Collection[str]) -> Iterator[tuple[Request, Attempt | None]]:
        return ((request, attempt) for request, _, attempt in self.described(partitions))


def stored_images(request: Request, attempt: Attempt | None) -> Iterator[ImageRecord]:
    """The records of the images of a request's attempt that are in the store.

    They have the names that the request has now: another prompt may have asked for the same first.
    """
    source = request.source
    names = (source.prompt_name, source.take, source.partition)
    for record in records_from_json(attempt.images) if attempt is not None else ():
        if record.status is ImageStatus.STORED:
            is_own = (record.prompt_name, record.take, record.partition) == names
            yield (
                record
                if is_own
                else replace(record, prompt_name=names[0], take=names[1], partition=names[2])
            )


@dataclass(frozen=True, slots=True)
class Recorded:
    """Images that the lineage table of a store records under a prompt set's name."""

    store: Store
    prompt_set: str

    def made(self, partitions: Collection[str] | None) -> Sequence[str]:
        """Those of which an image is recorded."""
        there: dict[str, None] = {}
        for table in open_snapshot(self.store).find(self._conditions(), ["partition"]):
            there |= dict.fromkeys(map(str, table.column(0).unique().to_pylist()))
        if partitions is None:
            return sorted(key for key in there if not key.startswith(_REPRODUCED))
        return [key for key in partitions if key in there]

    def records(self, partitions: Collection[str]) -> Iterator[tuple[str, ImageRecord]]:
        """The newest first."""
        wanted = pa.array(list(partitions), pa.string())
        among = Condition(["partition"], lambda values: pc.is_in(values, wanted))
        snapshot = open_snapshot(self.store)
        for table in snapshot.find([*self._conditions(), among], SCHEMA.names):
            for batch in table.to_batches(max_chunksize=_BATCH):
                for record in batch_to_records(batch):
                    yield record.partition, record

    def _conditions(self) -> list[Condition]:
        return [equals("prompt_set", self.prompt_set), equals("status", ImageStatus.STORED)]
