"""Opens the store, or the publishing target, of a URI: ``file:PATH`` or ``s3://bucket/prefix``."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path

from flux_pipeline.endpoint import find_store_mistake, split_bucket, store_folder
from flux_pipeline.errors import StoreError
from flux_pipeline.store.base import Store
from flux_pipeline.store.local import FolderStore
from flux_pipeline.store.target import FolderTarget, Target, TargetOptions
from flux_pipeline.store_options import NO_OPTIONS, StoreOptions

_Shared = dict[tuple[str, StoreOptions, int], Store]
_shared: ContextVar[_Shared | None] = ContextVar("_shared", default=None)
"""The stores that are open in a block of ``sharing_stores``."""


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
    shared = _shared.get()
    if shared is None:
        return _open_store(uri, options, concurrency)
    key = uri, options, concurrency
    if key not in shared:
        shared[key] = _open_store(uri, options, concurrency)
    return shared[key]


@contextmanager
def sharing_stores() -> Iterator[None]:
    """Within the block, ``open_store`` gives the store of one address and options again.

    Each client of a bucket takes 10 ms and connections of its own. For one command: what the AWS
    variables say is read when the store is opened first.
    """
    token = _shared.set({})
    try:
        yield
    finally:
        _shared.reset(token)


def _open_store(uri: str, options: StoreOptions, concurrency: int) -> Store:
    if mistake := find_store_mistake(uri):
        may_hold_a_secret = "@" in uri or "?" in uri
        raise StoreError(f"store: {mistake}" if may_hold_a_secret else f"store {uri!r}: {mistake}")
    scheme, _, rest = uri.partition(":")
    if scheme == "file":
        return FolderStore(Path(store_folder(rest)))
    # Here, so that only a bucket's user pays for boto3.
    from flux_pipeline.store.s3 import open_bucket  # noqa: PLC0415

    return open_bucket(*split_bucket(uri), options, concurrency=concurrency)


def open_target(
    uri: str,
    options: TargetOptions,
    *,
    store_uri: str,
    store_options: StoreOptions = NO_OPTIONS,
    default: str,
    concurrency: int = 16,
) -> Target:
    """The target at ``uri``, or where that is empty at ``default`` below the store.

    ``file:PATH`` is relative to the working directory, as a store's is. What a bucket's policy
    demands of the store's writes is sent along only where the target is the store's own bucket; how
    a bucket is reached, always. Nothing is read or written yet.

    Raises:
        StoreError: It is no address of a target.
    """
    address = uri or f"{store_uri}/{default}"
    if mistake := find_store_mistake(address):
        shown = "" if "@" in address or "?" in address else f" {address!r}"
        raise StoreError(f"publish.to{shown}: {mistake}")
    scheme, _, rest = address.partition(":")
    if scheme == "file":
        return FolderTarget(Path(store_folder(rest)))
    from flux_pipeline.store.s3_target import open_bucket_target  # noqa: PLC0415

    bucket, prefix = split_bucket(address)
    own = store_uri.startswith("s3:") and split_bucket(store_uri)[0] == bucket
    given = store_options if own else _reach(store_options)
    return open_bucket_target(bucket, prefix, options, given, concurrency=concurrency)


def _reach(options: StoreOptions) -> StoreOptions:
    """How a bucket is spoken to, without what another bucket's policy demands."""
    return replace(
        NO_OPTIONS,
        addressing=options.addressing,
        checksum=options.checksum,
        request_payer=options.request_payer,
    )
