"""Has glibc keep the memory of a decoded picture for the next one: half of a decode's CPU.

Decoding takes some megabytes for a moment. glibc gives blocks of that size back to the kernel as
soon as they are free, and for the next picture the kernel fills every page with zeros again.
"""

import ctypes
import os
import sys
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""From glibc's malloc.h; see mallopt(3)."""
_KEPT_BYTES = 32 << 20
"""The most that glibc takes for the second of them; a picture of 1024 x 1024 px needs 4 MB."""
_ARENAS = 2
"""Each keeps memory of its own: with one for each thread it would be kept several times."""


@cache
def keep_freed_memory() -> bool:
    """Set the allocator of this process, once; return whether it is glibc's and took the values.

    Best called before the threads start, because an arena that a thread has got stays. Costs up to
    30 MB that stay with the process. Does nothing elsewhere than on Linux with glibc.
    """
    if not _is_glibc():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    values = (
        (_M_MMAP_THRESHOLD, _KEPT_BYTES),
        (_M_TRIM_THRESHOLD, _KEPT_BYTES),
        (_M_ARENA_MAX, _ARENAS),
    )
    return all(mallopt(name, value) == 1 for name, value in values)


def _is_glibc() -> bool:
    if sys.platform != "linux":
        return False
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (ValueError, OSError):  # musl has no such name
        return False
