"""Whether what a run stored is in the lineage table, and what the table says is in the store.

For one run's images; ``verify`` compares everything with everything.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flux_pipeline.lineage.current import Integers, Mask, is_any_of
from flux_pipeline.lineage.snapshot import Snapshot, Test, open_snapshot
from flux_pipeline.store.base import Store

_ASKED_SINGLY = 256
"""Images that are looked up one by one; for more the whole set is listed, 1,000 keys a request."""
_READERS = 8
_BATCH = 4_096


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """What is missing of a run's images; addresses where they are known."""

    rows: int
    """Stored images that have no row."""
    unrecorded: Sequence[str]
    """Those of them that are still known by address."""
    lost: Sequence[str]
    """Images that the table says are stored, and the store has not."""


def find_unrecorded(
    store: Store, prompt_set: str, hashes: Iterable[int], newest: Sequence[str]
) -> Unrecorded:
    """Look for the row and the object of every image that a run stored or found stored.

    ``hashes`` are Python's own of the addresses, in this process: 8 bytes an image, so that a run
    of any size can be asked about. ``newest`` are the last addresses in full. Raises StoreError.
    """
    known = np.unique(np.fromiter(hashes, np.int64))
    if not len(known):
        return Unrecorded(0, (), ())
    snapshot, wanted = open_snapshot(store), pa.scalar(prompt_set)
    recorded = _in_table(snapshot, "prompt_set", lambda values: pc.equal(values, wanted), known)
    if not recorded.all():  # the row may be another set's, which asked for the same before
        recorded |= _in_table(snapshot, "uri", pc.is_valid, known)
    names = {hash(address): address for address in newest}
    lost = _lost(store, _to_look_up(store, prompt_set, snapshot, known, names))
    without = known[~recorded].tolist()
    return Unrecorded(len(without), [names[one] for one in without if one in names], lost)


def _in_table(snapshot: Snapshot, column: str, test: Test, known: Integers) -> Mask:
    found = np.zeros(len(known), np.bool_)
    for table in snapshot.find(column, test, ["uri"]):
        found |= is_any_of(known, np.sort(_hashes(table.column(0))))
    return found


def _to_look_up(
    store: Store, prompt_set: str, snapshot: Snapshot, known: Integers, names: dict[int, str]
) -> list[str]:
    """The addresses whose objects have to be asked for one by one."""
    if len(known) <= _ASKED_SINGLY and all(one in names for one in known.tolist()):
        return [names[one] for one in known.tolist()]
    there = np.zeros(len(known), np.bool_)
    for keys in _batches(store.list(f"images/{prompt_set}/")):
        listed = np.array([hash(f"{store.uri}/{key}") for key in keys], np.int64)
        there |= is_any_of(known, np.sort(listed))
    rest = known[~there]
    if not len(rest):
        return []
    tables = snapshot.find("uri", lambda values: _is_one_of(values, rest), ["uri"])
    return [str(uri) for table in tables for uri in table.column(0).to_pylist()]


def _lost(store: Store, addresses: Sequence[str]) -> list[str]:
    """Those that lie in another store, or nowhere."""

    def is_lost(address: str) -> bool:
        key = address.removeprefix(f"{store.uri}/")
        return key == address or store.head(key) is None

    with ThreadPoolExecutor(_READERS, thread_name_prefix="recorded") as pool:
        gone = pool.map(is_lost, addresses)
        return [address for address, lost in zip(addresses, gone, strict=True) if lost]


def _hashes(values: Any) -> Integers:
    found = values.to_pylist()
    return np.fromiter((hash(one) for one in found), np.int64, len(found))


def _is_one_of(values: Any, known: Integers) -> Any:
    return pa.array(is_any_of(_hashes(values), known))


def _batches(keys: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(islice(keys, _BATCH)):
        yield batch
