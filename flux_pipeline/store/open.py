"""Opens the store that a URI names: ``file:PATH`` or ``s3://bucket/prefix``."""

import re
from pathlib import Path
from urllib.parse import unquote

from flux_pipeline.errors import StoreError
from flux_pipeline.store.base import Store
from flux_pipeline.store.local import FolderStore

_FORMS = "write file:PATH, file:///PATH or s3://bucket/prefix"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"(?:[A-Za-z0-9_=-][A-Za-z0-9._=-]*/)*")
_MAX_PREFIX = 200


def open_store(uri: str, *, concurrency: int = 64, require_conditions: bool = True) -> Store:
    """The store at ``uri``, for ``concurrency`` threads. Nothing is read or written yet.

    ``file:data`` is a path as it stands, relative to the working directory; ``file:///data%20x``
    is percent-decoded. The endpoint, region and keys of ``s3:`` are those of boto3's own variables
    (AWS_ENDPOINT_URL_S3, AWS_ACCESS_KEY_ID, …) and never part of the address.
    ``require_conditions``: see S3Store. Raises StoreError for any other address.
    """
    scheme, _, rest = uri.partition(":")
    if scheme == "file":
        return FolderStore(_folder(uri, rest))
    if "@" in uri or "?" in uri:  # may hold a secret: not repeated
        raise StoreError(
            f"store: the address holds '@' or '?'; {_FORMS}, and keys in AWS_ variables"
        )
    if scheme != "s3" or not rest.startswith("//"):
        raise StoreError(f"store {uri!r}: no such kind of store; {_FORMS}")
    name, _, prefix = rest[2:].partition("/")
    prefix = prefix.rstrip("/") + "/" if prefix.rstrip("/") else ""
    if _BUCKET.fullmatch(name) is None:
        raise StoreError(f"store {uri!r}: a bucket's name has 3 to 63 of a-z, 0-9, '.' and '-'")
    if _PREFIX.fullmatch(prefix) is None or len(prefix) > _MAX_PREFIX:
        raise StoreError(
            f"store {uri!r}: a prefix has parts of letters, digits and '._=-', none beginning with"
            f" '.', and {_MAX_PREFIX} characters in all"
        )
    # Here, so that only a bucket's user pays for boto3.
    from flux_pipeline.store.s3 import Bucket, S3Store, open_client  # noqa: PLC0415

    bucket = Bucket(open_client(concurrency), name, prefix)
    return S3Store(bucket, require_conditions=require_conditions)


def _folder(uri: str, rest: str) -> Path:
    if rest.startswith("//"):
        host, _, path = rest[2:].partition("/")
        rest = f"/{unquote(path)}" if host in ("", "localhost") and path else ""
    if not rest or rest.startswith("~") or "\0" in rest:
        raise StoreError(f"store {uri!r}: no folder here; write file:PATH or file:///PATH, no ~")
    return Path(rest)
