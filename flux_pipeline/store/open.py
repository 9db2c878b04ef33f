"""Opens the store that a URI names: ``file:PATH`` or ``s3://bucket/prefix``."""

from pathlib import Path

from flux_pipeline.endpoint import find_store_mistake, split_bucket, store_folder
from flux_pipeline.errors import StoreError
from flux_pipeline.store.base import Store
from flux_pipeline.store.local import FolderStore
from flux_pipeline.store_options import NO_OPTIONS, StoreOptions


def open_store(
    uri: str,
    options: StoreOptions = NO_OPTIONS,
    *,
    concurrency: int = 64,
) -> Store:
    """The store at ``uri``, for ``concurrency`` threads. Nothing is read or written yet.

    ``file:data`` is a path as it stands, relative to the working directory; ``file:///data%20x``
    is percent-decoded. The endpoint, region and keys of ``s3:`` are those of boto3's own variables
    (AWS_ENDPOINT_URL_S3, AWS_ACCESS_KEY_ID, …) and never part of the address.
    ``options`` say what the bucket demands. Raises StoreError for any other address.
    """
    if mistake := find_store_mistake(uri):
        may_hold_a_secret = "@" in uri or "?" in uri
        raise StoreError(f"store: {mistake}" if may_hold_a_secret else f"store {uri!r}: {mistake}")
    scheme, _, rest = uri.partition(":")
    if scheme == "file":
        return FolderStore(Path(store_folder(rest)))
    # Here, so that only a bucket's user pays for boto3.
    from flux_pipeline.store.s3 import open_bucket  # noqa: PLC0415

    return open_bucket(*split_bucket(uri), options, concurrency=concurrency)
