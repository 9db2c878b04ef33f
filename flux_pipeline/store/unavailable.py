"""Stands in for a store that can't be used, so that what is paid can be fetched all the same."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from flux_pipeline.errors import StoreError
from flux_pipeline.store.base import StoredObject


@dataclass(frozen=True, slots=True)
class UnavailableStore:
    """A ``Store`` whose every call raises the StoreError that kept the real one from being used."""

    uri: str
    reason: str

    def check(self) -> None:
        """Raise StoreError."""
        raise StoreError(self.reason)

    def put_new(
        self,
        key: str,
        body: bytes,
        *,
        content_type: str,
        metadata: Mapping[str, str],
        sha256: str = "",
    ) -> tuple[StoredObject, bool]:
        """Raise StoreError."""
        del key, body, content_type, metadata, sha256
        raise StoreError(self.reason)

    def put(self, key: str, body: bytes, *, content_type: str) -> StoredObject:
        """Raise StoreError."""
        del key, body, content_type
        raise StoreError(self.reason)

    def head(self, key: str) -> StoredObject | None:
        """Raise StoreError."""
        del key
        raise StoreError(self.reason)

    def get(self, key: str) -> bytes:
        """Raise StoreError."""
        del key
        raise StoreError(self.reason)

    def delete(self, key: str) -> None:
        """Raise StoreError."""
        del key
        raise StoreError(self.reason)

    def list(self, prefix: str = "") -> Iterator[str]:
        """Raise StoreError."""
        del prefix
        raise StoreError(self.reason)
