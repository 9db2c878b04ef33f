"""A store that notes which keys were read and written."""

from pathlib import Path

from flux_pipeline.store.base import StoredObject
from flux_pipeline.store.local import FolderStore


class CountingStore(FolderStore):
    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.root = root
        self.forget()

    def forget(self) -> None:
        self.read: list[str] = []
        self.written: list[str] = []

    def get(self, key: str) -> bytes:
        self.read.append(key)
        return super().get(key)

    def put(self, key: str, body: bytes, *, content_type: str) -> StoredObject:
        self.written.append(key)
        return super().put(key, body, content_type=content_type)

    def reads(self, prefix: str) -> list[str]:
        return sorted(key for key in self.read if key.startswith(prefix))
