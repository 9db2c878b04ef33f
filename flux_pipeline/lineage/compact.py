"""The compacted table: the current rows of all parts as one Parquet object.

It is derived: it can be deleted at any time, and is made again from the parts. It is replaced whole
by one PUT, so a reader sees the earlier table or the new one; two compactions at once both leave a
right table, and what the slower one had not seen comes with the next.
"""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from tempfile import TemporaryFile
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from flux_pipeline.lineage.compacted import CompactedTable
from flux_pipeline.lineage.merging import merge
from flux_pipeline.lineage.parts import list_parts, part_day
from flux_pipeline.store.base import Store

COMPACTED = "lineage/current.parquet"
"""The key of the compacted table: ``pandas.read_parquet`` and DuckDB read it as it is."""
_REWRITTEN_WITHIN = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Compaction:
    """What ``compact`` did."""

    uri: str
    rows: int
    parts_read: int
    changed: bool
    """False where the table was already exactly this."""


def compact(store: Store, *, full: bool = False) -> Compaction:
    """Bring the compacted table up to date; a second call changes nothing.

    Reads the parts that it does not include yet, and again those of the newest day and the two days
    before it, because a retried run may have written them again; ``full`` reads all of them. Safe
    while others write parts. Raises StoreError.
    """
    keys = list(list_parts(store))
    earlier = None if full else load_compacted(store)
    included = earlier.parts if earlier else frozenset()
    since = part_day(keys[-1]) - _REWRITTEN_WITHIN if keys else date.min
    todo = [key for key in keys if key not in included or part_day(key) >= since]
    with TemporaryFile() as result:
        rows = merge(store, earlier, todo, result)
        del earlier  # so that only one of the two tables is held at a time
        result.seek(0)
        body = result.read()
    before = store.head(COMPACTED)
    changed = before is None or before.sha256 != hashlib.sha256(body).hexdigest()
    if changed:
        store.put(COMPACTED, body, content_type="application/vnd.apache.parquet")
    return Compaction(f"{store.uri}/{COMPACTED}", rows, len(todo), changed)


def load_compacted(store: Store) -> CompactedTable | None:
    """The compacted table, None where there is none that can be read. Raises StoreError."""
    if COMPACTED not in store.list(COMPACTED):
        return None
    try:
        return CompactedTable(_opened(store))
    except ValueError:
        return None


def _opened(store: Store) -> pa.Buffer:
    """The table's bytes; those of a file are mapped, so that only what is looked at is read.

    A table is replaced by a new file, never written into, so what is mapped stays as it was.
    """
    address = urlsplit(f"{store.uri}/{COMPACTED}")
    if address.scheme == "file":
        with suppress(OSError), pa.memory_map(unquote(address.path)) as file:
            return file.read_buffer()
    return pa.py_buffer(store.get(COMPACTED))
