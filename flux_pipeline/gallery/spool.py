"""Thumbnails on their way from packs to pages, in a temporary file: about 0.2 KB of memory each."""

from collections.abc import Iterable, Mapping
from tempfile import TemporaryFile
from types import TracebackType
from typing import Self

from flux_pipeline.lineage.thumbnails import read_pack
from flux_pipeline.store.base import Store


class Spool:
    """Thumbnails by the hash of their image. A context; for one thread."""

    def __init__(self) -> None:
        self._file = TemporaryFile()  # noqa: SIM115 - closed by this context
        self._places: dict[str, tuple[int, int]] = {}
        self.packs: dict[str, str] = {}
        """For each image the pack that its thumbnail is from."""

    def read(self, store: Store, packs: Iterable[str]) -> None:
        """Copy the thumbnails of these packs. Raises StoreError."""
        for pack in packs:
            for image, thumbnail in read_pack(store, pack):
                self._places[image] = self._file.seek(0, 2), len(thumbnail)
                self._file.write(thumbnail)
                self.packs[image] = pack

    def get(self, images: Iterable[str | None]) -> Mapping[str, bytes]:
        """The thumbnails of those images that have one."""
        found = {}
        for image in images:
            if image is not None and (place := self._places.get(image)):
                self._file.seek(place[0])
                found[image] = self._file.read(place[1])
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._file.close()
