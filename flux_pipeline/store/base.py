"""The store's interface, and the rules for keys and metadata that every store keeps.

The rules are narrower than any store's own, so that an object means the same in a folder and in S3,
and so that no key can leave the place that the store was opened on. Every implementation passes
``tests/store/contract.py``.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO, Protocol, TypeAlias

MAX_KEY = 800
"""Characters. S3 allows 1,024 bytes for the prefix and the key together."""
MAX_PART = 180
"""Characters between two slashes: a file name of at most 255 bytes with a checksum after it."""
MAX_VALUE = 255
"""Bytes of one metadata value: what the strictest S3-compatible server takes."""
MAX_METADATA = 1950
"""Bytes of all names and values: S3's 2 KB less the checksum that the store adds."""
SHA256_NAME = "sha256"
"""The metadata name under which a store keeps its own checksum; callers can't use it."""
Body: TypeAlias = bytes | BinaryIO
"""What is written: bytes, or an open file, which is read from its beginning to its end."""
PIECE = 1 << 18
"""Bytes of a file that are held at a time."""
IMAGES = "images/"
"""Where the images lie in a store."""
_IMAGE_KEY_PARTS = 3
_KEY = re.compile(r"[a-z0-9][a-z0-9._=-]*(?:/[a-z0-9_=-][a-z0-9._=-]*)*")
_PREFIX = re.compile(r"(?:[a-z0-9][a-z0-9._=/-]*)?")
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_TYPE = re.compile(r"[a-z0-9.+-]+/[a-z0-9.+-]+(?:; ?[a-z]+=[A-Za-z0-9._-]+)*")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What the store knows of one object."""

    key: str
    uri: str
    """``s3://bucket/prefix/key`` or ``file:///absolute/path``; never a signed URL."""
    size: int
    """bytes"""
    sha256: str
    """64 hex digits of the stored bytes; empty where it isn't known, as another tool wrote it."""
    content_type: str
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)


class Store(Protocol):
    """Objects under keys. Blocking and thread-safe: callers bring their own threads.

    Keys are relative, parts of ``[a-z0-9._=-]`` joined by ``/``, none of them empty, beginning with
    ``.`` or holding ``..``. Metadata names are lower-case with hyphens, values printable ASCII of
    at most 255 bytes, together under 2 KB. Anything else is a ``ValueError`` before a byte is
    written: ``check_key`` and ``check_metadata`` have the exact rules.
    """

    @property
    def uri(self) -> str:
        """Where the keys live."""
        ...

    def check(self) -> None:
        """Probe that this store can be written; raises StoreError that says what is missing."""
        ...

    def put_new(
        self,
        key: str,
        body: bytes,
        *,
        content_type: str,
        metadata: Mapping[str, str],
        sha256: str = "",
    ) -> tuple[StoredObject, bool]:
        """Write ``body`` if nothing lies under ``key``; return the object and whether it was new.

        Never overwrites: what lies there already is returned as it is, and the caller compares.
        Durable when it returns. ``sha256`` is that of the body, in hex, for a caller that knows it;
        it is not computed again then. Raises StoreError.
        """
        ...

    def put(self, key: str, body: bytes, *, content_type: str) -> StoredObject:
        """Write ``body``, replacing at once and whole what lies there. Raises StoreError."""
        ...

    def head(self, key: str) -> StoredObject | None:
        """What lies under ``key``, or None. Raises StoreError."""
        ...

    def get(self, key: str) -> bytes:
        """The bytes under ``key``. Raises StoreError, also where there are none."""
        ...

    def delete(self, key: str) -> None:
        """Remove what lies under ``key``; does nothing where there is nothing. Raises StoreError.

        Durable when it returns. The trap: a bucket with versions keeps the earlier one, and its
        bytes, until a rule of its own ends it.
        """
        ...

    def list(self, prefix: str = "") -> Iterator[str]:
        """The keys that start with ``prefix``, in order. Raises StoreError."""
        ...


def size_of(body: Body) -> int:
    """The number of bytes."""
    return len(body) if isinstance(body, bytes) else body.seek(0, os.SEEK_END)


def sha256_of(body: Body) -> str:
    """The SHA-256, 64 hex digits; a file is read in pieces."""
    return _digest(body, hashlib.sha256).hex()


def sha1_of(body: Body) -> bytes:
    """The SHA-1."""
    return _digest(body, partial(hashlib.sha1, usedforsecurity=False))


def md5_of(body: Body) -> bytes:
    """The MD5."""
    return _digest(body, partial(hashlib.md5, usedforsecurity=False))


def _digest(body: Body, new: "Callable[..., hashlib._Hash]") -> bytes:
    found = new()
    for piece in pieces_of(body):
        found.update(piece)
    return found.digest()


def pieces_of(body: Body) -> Iterator[bytes]:
    """The bytes; of a file in pieces of ``PIECE`` bytes."""
    if isinstance(body, bytes):
        yield body
        return
    body.seek(0)
    while piece := body.read(PIECE):
        yield piece


def check_readable(store: Store) -> None:
    """Look for one key: nothing is written, not even a probe. Raises StoreError."""
    next(iter(store.list()), None)


def is_key(key: str) -> bool:
    """Whether ``key`` may name an object; listings leave out every other name."""
    return (
        len(key) <= MAX_KEY
        and _KEY.fullmatch(key) is not None
        and ".." not in key
        and all(len(part) <= MAX_PART for part in key.split("/"))
    )


def key_of(uri: str, store_uri: str) -> str:
    """The key of the object with this URI, even where the store has been moved since.

    A moved store holds the same keys, and an image's key has three parts.
    """
    if uri.startswith(f"{store_uri}/"):
        return uri[len(store_uri) + 1 :]
    parts = uri.rsplit("/", _IMAGE_KEY_PARTS)[-_IMAGE_KEY_PARTS:]
    return "/".join(parts) if f"{parts[0]}/" == IMAGES else uri


def check_key(key: str) -> None:
    """Refuse a key that would be another object, or none, in some store. Raises ValueError."""
    if not is_key(key):
        raise ValueError(
            f"store key {key[:200]!r}: only parts of a-z, 0-9 and '._=-' joined by '/', none empty,"
            f" beginning with '.' or holding '..', at most {MAX_PART} characters a part and"
            f" {MAX_KEY} in all"
        )


def check_prefix(prefix: str) -> None:
    """Refuse a prefix that no key can begin with. Raises ValueError."""
    if _PREFIX.fullmatch(prefix) is None or ".." in prefix or "//" in prefix:
        raise ValueError(f"store prefix {prefix[:200]!r}: no key can begin like this")


def check_metadata(content_type: str, metadata: Mapping[str, str]) -> None:
    """Refuse what some store would drop, change or answer with an error. Raises ValueError."""
    if _TYPE.fullmatch(content_type) is None:
        raise ValueError(f"content type {content_type[:100]!r}: not of the form type/subtype")
    for name, value in metadata.items():
        if _NAME.fullmatch(name) is None or name == SHA256_NAME:
            raise ValueError(
                f"metadata name {name[:100]!r}: only a-z and 0-9 joined by single hyphens, and not"
                f" {SHA256_NAME!r}, which the store writes itself"
            )
        if len(value) > MAX_VALUE or _VALUE.fullmatch(value) is None:
            raise ValueError(
                f"metadata {name}: printable ASCII of 1 to {MAX_VALUE} characters without blanks at"
                " the ends is allowed"
            )
    size = sum(len(name) + len(value) for name, value in metadata.items())
    if size > MAX_METADATA:
        raise ValueError(f"metadata: {size} bytes in all, at most {MAX_METADATA} are allowed")
