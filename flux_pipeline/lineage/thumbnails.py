"""Packs of thumbnails: small pictures of stored images, many in one Parquet object.

The gallery alone reads them. They are JPEG; in packs of earlier versions WebP. They can be deleted
at any time; they are not made again, and the gallery then shows the images themselves. A pack's key
has a digest of its images' hashes, so writing a pack again replaces it by the same.
"""

import hashlib
from collections.abc import Iterator, Mapping
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq

from flux_pipeline.lineage.arrays import array_of
from flux_pipeline.lineage.schema import PARQUET, to_parquet
from flux_pipeline.store.base import Store, StoredObject

_PACKS = "thumbnails"
_TYPES: dict[str, pa.DataType] = {"image_sha256": pa.string(), "thumbnail": pa.binary()}
_SCHEMA = pa.schema(_TYPES)


def write_pack(
    store: Store, prompt_set: str, thumbnails: Mapping[str, bytes], *, day: date
) -> StoredObject:
    """Write thumbnails by the ``image_sha256`` of their images. Raises StoreError."""
    digest = hashlib.sha256("".join(sorted(thumbnails)).encode()).hexdigest()[:16]
    images = array_of(list(thumbnails), pa.string())
    pictures = array_of(list(thumbnails.values()), pa.binary())
    table = pa.table([images, pictures], schema=_SCHEMA)
    body = to_parquet(table, compression="none", dictionaries=False)  # pictures are
    key = f"{_PACKS}/{prompt_set}/{day.isoformat()}-{digest}.parquet"
    return store.put(key, body, content_type=PARQUET)


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
