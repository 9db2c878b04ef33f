"""The store's seam: named bytes that are written once.

Every implementation passes ``tests/store/contract.py``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol


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
    written: ``store.keys`` has the exact rules.
    """

    @property
    def uri(self) -> str:
        """Where the keys live."""
        ...

    def check(self) -> None:
        """Probe that this store can be written; raises StoreError that says what is missing."""
        ...

    def put_new(
        self, key: str, body: bytes, *, content_type: str, metadata: Mapping[str, str]
    ) -> tuple[StoredObject, bool]:
        """Write ``body`` if nothing lies under ``key``; return the object and whether it was new.

        Never overwrites: what lies there already is returned as it is, and the caller compares.
        Durable when it returns. Raises StoreError.
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

    def list(self, prefix: str = "") -> Iterator[str]:
        """The keys that start with ``prefix``, in order. Raises StoreError."""
        ...
