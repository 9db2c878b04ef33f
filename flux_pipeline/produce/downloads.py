"""Bounds the memory of pictures between their download and the store, by their size.

It is the pictures that take memory, so it is their number that is bounded, and not that of the
predictions that are waited for.
"""

from collections import deque
from dataclasses import dataclass, field

import anyio

MEMORY = 128 * 2**20
"""Bytes of pictures as they were sent, all together; decoding is bounded in images.inspection."""
_FEWEST, _MOST = 4, 64
_UNKNOWN_SIZE = 8 * 2**20
"""Bytes; taken for a picture's size until one was fetched."""
_WINDOW = 100
"""Pictures whose sizes say how large the next ones may be."""


@dataclass(slots=True)
class Downloads:
    """One run's pictures in memory. Lives on one event loop."""

    limiter: anyio.CapacityLimiter = field(
        default_factory=lambda: anyio.CapacityLimiter(MEMORY // _UNKNOWN_SIZE)
    )
    """Held from before a picture is fetched until it is stored."""
    _sizes: deque[int] = field(default_factory=lambda: deque(maxlen=_WINDOW))

    def note_size(self, size: int) -> None:
        """Learn from one picture, in bytes, how many may be in memory."""
        self._sizes.append(size)
        most = MEMORY // max(*self._sizes, 1)
        self.limiter.total_tokens = min(max(most, _FEWEST), _MOST)
