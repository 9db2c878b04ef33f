"""Which images are current: what the prompt sets asked for when they were read last.

Each run writes down what its partitions ask for, as one small object below `asked/`: 8 bytes of
each request's fingerprint. Of a partition the newest object counts, so that an edit which is taken
back makes the earlier image current again without being made or recorded anew. An object of a whole
set stands for all before it. A set that is made by day is never whole: a day's images are those
that were asked for when that day was read last.

While a run reads what is asked for, a small object says so (``asking``): what it asks for is not
known before its end, so that nothing is removed as obsolete meanwhile.

Two fingerprints that begin alike would make an image current that is not, by a chance of one in ten
million at a million requests. Nothing is ever sent because of it.
"""

import hashlib
import json
import re
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flux_pipeline.errors import StoreError
from flux_pipeline.iteration import map_ahead
from flux_pipeline.lineage.arrays import array_of, flags_of, numbers_of, same_numbers, scalar_of
from flux_pipeline.lineage.record import reproduction_partition
from flux_pipeline.lineage.schema import PARQUET, to_parquet
from flux_pipeline.lineage.table import is_any_of, sorted_distinct
from flux_pipeline.store.base import Store

ASKED = "asked/"
_FIELDS: "list[pa.Field[Any]]" = [
    pa.field("partition", pa.string()),
    pa.field("request", pa.uint64()),
]
_SCHEMA = pa.schema(_FIELDS)
_KNOWN = b"flux-pipeline.partitions"
_READERS = 8
_AT_ONCE = 50_000
"""Requests that are decoded at once."""
_DIGITS = 16
"""Hex digits of a fingerprint that are kept."""
_KEY = re.compile(rf"{ASKED}([a-z0-9_]+)/(whole|part)-[0-9]{{20}}-[0-9a-f]{{12}}\.parquet")
_RUNNING = re.compile(rf"{ASKED}([a-z0-9_]+)/running-([0-9]{{20}})-[0-9a-f]{{12}}\.json")
_STAMP = "%Y%m%d%H%M%S%f"
_ENDED = b"{}"
KILLED_AFTER = timedelta(days=3)
"""A run that began to ask so long ago and has not said that it ended was killed."""

Fingerprints = npt.NDArray[np.uint64]


class _Fingerprinted(Protocol):
    @property
    def request_sha256(self) -> str: ...


_Request = TypeVar("_Request", bound=_Fingerprinted)


@dataclass(slots=True)
class AskedRequests:
    """Collects the requests of partitions while a run reads them; 8 bytes each."""

    partitions: "dict[str, array[int]]" = field(default_factory=dict)
    """Those that were read to their end."""

    def watch(
        self, partitions: Iterable[tuple[str, Iterable[_Request]]]
    ) -> Iterator[tuple[str, Iterable[_Request]]]:
        """Pass on partitions with their requests."""
        for key, requests in partitions:
            yield key, self._watched(key, requests)

    def _watched(self, key: str, requests: Iterable[_Request]) -> Iterator[_Request]:
        found = array("Q")
        for request in requests:
            found.append(short_fingerprint(request.request_sha256))
            yield request
        self.partitions[key] = found

    def close(self, partitions: Iterable[str]) -> None:
        """Note after the last of these partitions that the others of them ask for nothing."""
        for key in partitions:
            self.partitions.setdefault(key, array("Q"))

    def fingerprints(self) -> Fingerprints:
        """The beginnings of all their fingerprints, sorted."""
        found = (np.frombuffer(each, np.uint64) for each in self.partitions.values() if each)
        return sorted_distinct(np.concatenate([np.empty(0, np.uint64), *found]))

    def write(
        self,
        store: Store,
        prompt_set: str,
        *,
        known: Collection[str] | None,
        run_id: str,
        now: datetime,
    ) -> None:
        """Write down what was collected; nothing where no partition was read to its end.

        ``known`` are all partitions of the set, and None where they are days. Raises StoreError.
        """
        if not self.partitions:
            return
        whole = known is not None and self.partitions.keys() >= set(known)
        names = [
            pa.repeat(scalar_of(key, pa.string()), len(found))
            for key, found in self.partitions.items()
        ]
        requests = np.concatenate(
            [np.frombuffer(found, np.uint64) for found in self.partitions.values()]
        )
        read = {"read": sorted(self.partitions), "known": None if known is None else sorted(known)}
        columns: list[Any] = [pa.chunked_array(names), same_numbers(requests, pa.uint64())]
        table = pa.table(columns, schema=_SCHEMA)
        body = to_parquet(table.replace_schema_metadata({_KNOWN: json.dumps(read).encode()}))
        name = _name("whole" if whole else "part", prompt_set, run_id=run_id, now=now)
        store.put(f"{name}.parquet", body, content_type=PARQUET)


@dataclass(frozen=True, slots=True)
class Asked:
    """What all prompt sets ask for, as they were read last."""

    requests: Fingerprints
    """Sorted."""
    prompt_sets: frozenset[str]
    """The sets of which it is known."""
    days: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Of each set by day the days that were read."""

    def version_for(self, prompt_set: str) -> str:
        """A hash of all that ``are_current`` goes by for the images of one set."""
        days = self.days.get(prompt_set)
        known = [prompt_set in self.prompt_sets, None if days is None else sorted(days)]
        digest = hashlib.sha256(json.dumps(known).encode())
        digest.update(self.requests.data)
        return digest.hexdigest()

    def are_current(
        self, requests: Iterable[str], prompt_sets: Iterable[str], partitions: Iterable[str]
    ) -> "list[bool | None]":
        """For each row whether any set asks for its request; None where nobody knows.

        That is so for sets that no run has read since this was written down, for such days of a
        set by day, and for images that `flux-pipeline reproduce` has made.
        """
        asked = is_any_of(_short_fingerprints(requests), self.requests)
        apart = reproduction_partition("")
        return [
            True
            if is_asked
            else None
            if prompt_set not in self.prompt_sets or partition.startswith(apart)
            else False
            if partition in self.days.get(prompt_set, (partition,))
            else None
            for is_asked, prompt_set, partition in zip(
                asked.tolist(), prompt_sets, partitions, strict=True
            )
        ]


@dataclass(frozen=True, slots=True)
class Asking:
    """A run that is reading what its partitions ask for."""

    prompt_set: str
    run_id: str
    since: datetime
    uri: str
    """Of the object that says so; where the run was killed, it can be deleted."""


@contextmanager
def asking(store: Store, prompt_set: str, *, run_id: str, now: datetime) -> Iterator[None]:
    """Say in the store that a run reads what is asked for, until the block ends.

    To begin before the ledger is asked, and to end after ``AskedRequests.write``. A store that
    can't be written is no error here: nothing can be removed from it either, and the run says so.
    """
    key = f"{_name('running', prompt_set, run_id=run_id, now=now)}.json"
    body = json.dumps({"run_id": run_id}).encode()
    with suppress(StoreError):
        store.put(key, body, content_type="application/json")
    try:
        yield
    finally:
        with suppress(StoreError):
            _end_asking(store, key)


def _end_asking(store: Store, key: str) -> None:
    try:
        store.delete(key)
    except StoreError:  # credentials that may write and not delete
        store.put(key, _ENDED, content_type="application/json")


def runs_asking(store: Store, *, now: datetime) -> Sequence[Asking]:
    """The runs that are reading what is asked for, the oldest first. Raises StoreError."""
    found = []
    for key in store.list(ASKED):
        if named := _RUNNING.fullmatch(key):
            since = datetime.strptime(named[2], _STAMP).replace(tzinfo=UTC)
            body = store.get(key) if store.head(key) else _ENDED
            if body != _ENDED and now - since < KILLED_AFTER:
                run_id = str(json.loads(body).get("run_id", ""))
                found.append(Asking(named[1], run_id, since, f"{store.uri}/{key}"))
    return sorted(found, key=lambda each: each.since)


def _name(kind: str, prompt_set: str, *, run_id: str, now: datetime) -> str:
    """The key of an object, without its ending."""
    digest = hashlib.sha256(f"{run_id}\0{prompt_set}".encode()).hexdigest()[:12]
    return f"{ASKED}{prompt_set}/{kind}-{now.astimezone(UTC):{_STAMP}}-{digest}"


def short_fingerprint(request_sha256: str) -> int:
    """The first 64 bits of a fingerprint."""
    return int(request_sha256[:_DIGITS], 16)


def _short_fingerprints(requests: Iterable[str]) -> Fingerprints:
    """As ``short_fingerprint``, of many at once."""
    digits = "".join([sha[:_DIGITS] for sha in requests])
    return np.frombuffer(bytes.fromhex(digits), ">u8").astype(np.uint64)


def read_asked(store: Store) -> Asked:
    """Read what all prompt sets ask for. Raises StoreError."""
    by_set: dict[str, list[str]] = {}
    for key in store.list(ASKED):
        if found := _KEY.fullmatch(key):
            by_set.setdefault(found[1], []).append(key)
    requests, days = [], {}
    for prompt_set, keys in by_set.items():
        wanted, read = _requests_of(store, keys)
        requests.append(wanted)
        if read is not None:
            days[prompt_set] = read
    joined = sorted_distinct(np.concatenate([np.empty(0, np.uint64), *requests]))
    return Asked(joined, frozenset(by_set), days)


def _requests_of(store: Store, keys: Iterable[str]) -> tuple[Fingerprints, frozenset[str] | None]:
    """What one set asks for, from its objects, the newest first; and the days, if it has days."""
    ordered = sorted(keys, key=_stamp, reverse=True)
    whole = next((n for n, key in enumerate(ordered) if "/whole-" in key), len(ordered))
    found: list[Fingerprints] = []
    seen: set[str] = set()
    known: set[str] | None = None
    is_first = True

    def read(key: str) -> tuple[str, bytes]:
        return key, store.get(key)

    with closing(map_ahead(read, ordered[: whole + 1], threads=_READERS)) as bodies:
        for key, body in bodies:
            with _readable(store, key):
                file = pq.ParquetFile(pa.BufferReader(body), read_dictionary=["partition"])
                about = json.loads((file.schema_arrow.metadata or {})[_KNOWN])
                if is_first:  # the newest one knows which partitions there are still
                    known = None if about["known"] is None else set(about["known"])
                    is_first = False
                theirs = set(about["read"])
                wanted = {one for one in theirs - seen if known is None or one in known}
                seen.update(theirs)
                found += _read_requests(file, None if wanted == theirs else wanted)
            if known is not None and known <= seen:  # older ones have nothing more to say
                break
    days = frozenset(seen) if known is None else None
    return np.concatenate([np.empty(0, np.uint64), *found]), days


def _read_requests(file: pq.ParquetFile, wanted: Collection[str] | None) -> Iterator[Fingerprints]:
    """The requests of some partitions, or (None) of all: then only their column is read."""
    columns = ["request"] if wanted is None else ["request", "partition"]
    partitions = array_of(sorted(wanted or ()), pa.string())
    for batch in file.iter_batches(_AT_ONCE, columns=columns, use_threads=False):
        requests = numbers_of(batch.column("request"), np.uint64)
        if wanted is not None:
            requests = requests[flags_of(pc.is_in(batch.column("partition"), partitions))]
        yield requests


@contextmanager
def _readable(store: Store, key: str) -> Iterator[None]:
    """Raise StoreError where the object is none of these."""
    try:
        yield
    except (pa.ArrowException, OSError, LookupError, TypeError, ValueError) as error:
        raise StoreError(
            f"{store.uri}/{key}: can't be read ({type(error).__name__}); delete it, and run the"
            " prompt set again: what is made costs nothing"
        ) from error


def _stamp(key: str) -> str:
    return key.rpartition("/")[2].partition("-")[2]
