"""Packs of thumbnails: small pictures of stored images, many in one object.

They are there for the gallery alone, can be deleted at any time, and are not made again: an image
without one is shown itself. A pack's key is the hash of what it shows, so writing it again
replaces it by the same.
"""

import hashlib
from collections.abc import Iterator, Mapping
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq

from flux_pipeline.store.base import Store, StoredObject

_PACKS = "thumbnails"
_CONTENT_TYPE = "application/vnd.apache.parquet"
_TYPES: dict[str, pa.DataType] = {"image_sha256": pa.string(), "thumbnail": pa.binary()}
_SCHEMA = pa.schema(_TYPES)


def write_pack(
    store: Store, prompt_set: str, thumbnails: Mapping[str, bytes], *, day: date
) -> StoredObject:
    """Write thumbnails (WebP) by the ``image_sha256`` of their images. Raises StoreError."""
    digest = hashlib.sha256("".join(sorted(thumbnails)).encode()).hexdigest()[:16]
    images, pictures = pa.array(list(thumbnails)), pa.array(list(thumbnails.values()), pa.binary())
    table = pa.table([images, pictures], schema=_SCHEMA)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="none", use_dictionary=False)  # WebP is compressed
    key = f"{_PACKS}/{prompt_set}/{day.isoformat()}-{digest}.parquet"
    return store.put(key, sink.getvalue().to_pybytes(), content_type=_CONTENT_TYPE)


def list_packs(store: Store, prompt_set: str) -> Iterator[str]:
    """The keys of a prompt set's packs, the oldest day first. Raises StoreError."""
    keys = store.list(f"{_PACKS}/{prompt_set}/")
    return (key for key in keys if key.endswith(".parquet"))


def read_pack(store: Store, key: str) -> Iterator[tuple[str, bytes]]:
    """Each image's hash with its thumbnail; nothing where the object is no readable pack.

    Raises StoreError where the store can't be read.
    """
    if key not in store.list(key):
        return
    try:
        table = pq.ParquetFile(pa.BufferReader(store.get(key))).read().cast(_SCHEMA)
    except (pa.ArrowException, OSError, ValueError):
        return
    yield from zip(*(column.to_pylist() for column in table.columns), strict=True)
