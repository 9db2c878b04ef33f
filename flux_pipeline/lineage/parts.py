"""The parts of the lineage table: Parquet objects, each of a run's partitions that ended together.

A part's key has its day, asset, run and the first of its partitions. Many workers write parts at
once, but never two the same part. So writing needs no lock and no transaction. The same image may
be in several parts; which row is current is decided by readers, in ``table``.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq

from flux_pipeline.errors import StoreError
from flux_pipeline.iteration import map_ahead
from flux_pipeline.lineage.arrays import array_of
from flux_pipeline.lineage.record import ImageRecord
from flux_pipeline.lineage.schema import PARQUET, SCHEMA, records_to_batch, to_parquet
from flux_pipeline.store.base import Store, StoredObject

_PARTS = "lineage/dt="
_LARGE = 1_000_000
"""Bytes of a part from which on several threads that decode it cost less than they save."""
_READERS = 8
_SLUG = 40  # characters
_ROW_KEY = ("request_sha256", "prediction_id", "output_index")


def part_key(*, asset: str, partition: str, run_id: str, day: date) -> str:
    """``lineage/dt=2026-11-01/winter-images-castle-<run>-<digest>.parquet``.

    The names are there for people, with everything but a-z and 0-9 made a hyphen and cut to 40
    characters each; the digest of the three keeps apart what looks the same then.
    """
    names = (asset, partition, run_id)
    # As JSON, so that no two triples make the same text.
    digest = hashlib.sha256(json.dumps(names).encode()).hexdigest()[:16]
    slugs = [_slug(name) for name in names]
    return f"{_PARTS}{day.isoformat()}/{'-'.join(filter(None, [*slugs, digest]))}.parquet"


def write_part(
    store: Store,
    records: Iterable[ImageRecord],
    *,
    asset: str,
    partition: str,
    run_id: str,
    day: date,
) -> StoredObject:
    """Write rows of one run, as one object; writing them again is harmless.

    ``partition`` is the one that the part is named after, the first of those it has rows of.
    Rows that an earlier write of the same part holds, and this one does not, are kept: a run that
    is retried records only what was still missing. Not for two writers of one part at a time.
    Raises StoreError, and ValueError where a record does not fit the table.
    """
    key = part_key(asset=asset, partition=partition, run_id=run_id, day=day)
    table = pa.Table.from_batches([records_to_batch(records)])
    if store.head(key) is not None:
        known = set(_row_keys(table))
        before = read_part(store, key)
        missing = [row_key not in known for row_key in _row_keys(before)]
        table = pa.concat_tables([before.filter(array_of(missing, pa.bool_())), table])
    return store.put(key, to_parquet(table), content_type=PARQUET)


def list_parts(store: Store) -> Iterator[str]:
    """The keys of all parts, in order, so the oldest day first. Raises StoreError."""
    return (key for key in store.list(_PARTS) if _is_part(key))


def is_part_of(key: str, *, asset: str = "", run_id: str = "") -> bool:
    """Whether a part may be this asset's and this run's, by its key: False is certain."""
    name = key.rpartition("/")[2]
    return name.startswith(_slug(asset)) and f"-{_slug(run_id)}" in f"-{name}"


def part_day(key: str) -> date:
    """The day of a part, from its key. Raises ValueError for another key."""
    return date.fromisoformat(key.removeprefix(_PARTS).partition("/")[0])


def read_part(store: Store, key: str) -> pa.Table:
    """One part as a table of SCHEMA: columns it lacks are null, those it has beyond are left out.

    Raises StoreError, also where it is no readable part.
    """
    return _decode(store, key, store.get(key))


def read_parts(store: Store, keys: Iterable[str]) -> Iterator[tuple[str, pa.Table]]:
    """Parts in the order asked for, a few fetched ahead. Raises StoreError."""
    for key, body in map_ahead(lambda key: (key, store.get(key)), keys, threads=_READERS):
        yield key, _decode(store, key, body)


def _decode(store: Store, key: str, body: bytes) -> pa.Table:
    try:
        found = pq.ParquetFile(pa.BufferReader(body)).read(use_threads=len(body) > _LARGE)
        if found.schema.equals(SCHEMA):  # of this release: nothing to cast
            return found.replace_schema_metadata(SCHEMA.metadata)
        columns = [
            found.column(field.name).cast(field.type)
            if field.name in found.column_names
            else pa.nulls(len(found), field.type)
            for field in SCHEMA
        ]
        return pa.table(columns, schema=SCHEMA)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(
            f"{store.uri}/{key}: no readable lineage part ({type(error).__name__}); move it away,"
            " and the rows of its run are written again from the ledger or the images"
        ) from error


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:_SLUG].strip("-")


def _is_part(key: str) -> bool:
    try:
        part_day(key)
    except ValueError:
        return False
    return key.endswith(".parquet")


def _row_keys(table: pa.Table) -> list[tuple[object, ...]]:
    return list(zip(*(table.column(name).to_pylist() for name in _ROW_KEY), strict=True))
