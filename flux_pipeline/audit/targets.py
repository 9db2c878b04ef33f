"""What a person names when they mean a picture: a file, an address, or a key in the store."""

from pathlib import Path
from urllib.parse import unquote

from flux_pipeline.errors import StoreError
from flux_pipeline.store.base import Store, is_key
from flux_pipeline.store.open import open_store

MAX_BYTES = 256 << 20
"""No picture of ours is a tenth of it; the whole file is held in memory."""


def read_target(store: Store, target: str) -> bytes | None:
    """The bytes of the picture; None where the words name none, as an id does.

    An address of the store as it was before it was moved is looked for where it lies today.

    Raises:
        StoreError: What is meant can't be read; says what was looked for.
    """
    scheme, colon, rest = target.partition(":")
    if colon and scheme in {"http", "https"}:
        raise StoreError("nothing is fetched from the web: save the picture, and give the file")
    if colon and scheme in {"file", "s3"}:
        # Here, because it loads all that compares a whole store, and a plain file needs none of it.
        from flux_pipeline.audit.surveying import key_of  # noqa: PLC0415

        key = key_of(target, store.uri)
        if key != target and is_key(key):
            return store.get(key)
        return _elsewhere(target) if scheme == "s3" else _read(Path(_path(rest)))
    path = Path(target)
    if _exists(path):
        return _read(path)
    return store.get(target) if "/" in target and _is_stored(store, target) else None


def _elsewhere(address: str) -> bytes:
    """An object of another bucket, with the same keys and endpoint."""
    bucket, _, key = address.removeprefix("s3://").partition("/")
    if not is_key(key):
        raise StoreError(f"{address}: not below {bucket} as this pipeline names objects")
    return open_store(f"s3://{bucket}").get(key)


def _path(rest: str) -> str:
    if not rest.startswith("//"):
        return rest
    return unquote(rest.removeprefix("//").removeprefix("localhost"))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a name, or with a NUL: an id perhaps
        return False


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            body = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no such name"
        raise StoreError(f"{path}: can't be read ({reason})") from None
    if len(body) > MAX_BYTES:
        raise StoreError(f"{path}: larger than {MAX_BYTES >> 20} MB, which no picture is")
    return body


def _is_stored(store: Store, key: str) -> bool:
    return is_key(key) and store.head(key) is not None
