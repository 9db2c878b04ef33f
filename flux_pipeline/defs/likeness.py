"""Which images of a run are the same picture: to the pixel, or as far as a small hash sees.

Two hashes of 64 bits are kept of every image, and address and looks of the newest ``WINDOW``: a run
of a million images is compared in flat memory, but what looks alike only with its neighbours.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from flux_pipeline.lineage.record import ImageRecord

WINDOW = 4_096
"""Images that an image is compared with by its difference hash: those right before it."""
ALIKE = 3
"""Bits. Fewer than the 6 of a re-encoded copy: pictures of one kind come that near by chance."""


@dataclass(slots=True)
class Likeness:
    """Takes stored images one by one; keeps the first ``most`` findings of each kind."""

    most: int
    twins: dict[str, str] = field(default_factory=dict)
    """Addresses of images with the pixels of an earlier one, and the earlier one where known."""
    similar: dict[str, str] = field(default_factory=dict)
    """Addresses of images that look like an earlier one, and which."""
    _pixels: set[bytes] = field(default_factory=set)
    _known: set[int] = field(default_factory=set)
    """Hashes of the addresses."""
    _hashes: npt.NDArray[np.uint64] = field(default_factory=lambda: np.zeros(WINDOW, np.uint64))
    _addresses: list[str] = field(default_factory=list)
    _next: int = 0

    def add(self, record: ImageRecord) -> None:
        """Compare one stored image with those before it.

        The same object twice is no twin: two prompts with the same request share it on purpose.
        """
        address = record.uri or record.request_sha256
        if (mark := hash(address)) in self._known:
            return
        self._known.add(mark)
        looks = record.dhash or 0
        near = self._near(looks) if looks else ""
        pixels = bytes.fromhex(record.image_sha256)[:8] if record.image_sha256 else b""
        if pixels and pixels in self._pixels:
            if len(self.twins) < self.most:
                self.twins[address] = near
        elif near and len(self.similar) < self.most:
            self.similar[address] = near
        self._pixels.add(pixels)
        self._remember(looks, address)

    @property
    def newest(self) -> list[str]:
        """The addresses in the window, in no order."""
        return self._addresses

    def _near(self, looks: int) -> str:
        """The address of the first image in the window that looks like this one."""
        known = self._hashes[: len(self._addresses)]
        bits = np.bitwise_count(known ^ np.uint64(looks))
        found = np.flatnonzero((bits <= ALIKE) & (known != 0))
        return self._addresses[int(found[np.argmin(bits[found])])] if len(found) else ""

    def _remember(self, looks: int, address: str) -> None:
        self._hashes[self._next] = looks
        if self._next < len(self._addresses):
            self._addresses[self._next] = address
        else:
            self._addresses.append(address)
        self._next = (self._next + 1) % WINDOW
