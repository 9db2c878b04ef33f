"""Has glibc keep the memory of a decoded picture for the next one: half of a decode's CPU.

Decoding takes some megabytes for a moment. glibc gives blocks of that size back to the kernel as
soon as they are free, and for the next picture the kernel fills every page with zeros again. All
else that takes megabytes (tables, sorted hashes) does so once, and should give them back. So memory
is kept from the first picture on that is decoded, until somebody says that it was the last one.
"""

import ctypes
import os
import sys
from functools import cache
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""From glibc's malloc.h; see mallopt(3)."""
_KEPT_BYTES = 32 << 20
"""The most that glibc takes for the second of them; a picture of 1024 x 1024 px needs 4 MB."""
_GIVEN_BACK_BYTES = 256 << 10
"""Blocks from here on are given back one by one, whatever lies beside them. glibc's own number is
128 KiB, and grows with the blocks that a process frees."""
_ARENAS = 2
"""Each keeps memory of its own: with one for each thread it would be kept several times."""


_kept: bool | None = None
"""Whether freed memory is kept now; None: nothing was set yet."""


def keep_freed_memory() -> bool:
    """Keep freed memory in this process; return whether its allocator is glibc's, and does.

    Costs up to 30 MB. Does nothing elsewhere than on Linux with glibc. For any number of calls: to
    repeat it costs nothing.
    """
    return _set(kept=True)


def give_back_freed_memory() -> None:
    """Give back what is free, and from now on what is freed, until ``keep_freed_memory``.

    Best called once before the threads start, too, because it bounds the arenas, and one that a
    thread has got stays.
    """
    if _set(kept=False):
        _libc().malloc_trim(0)


def _set(*, kept: bool) -> bool:
    """Whether the allocator is set so; two threads at once do the same twice."""
    global _kept  # noqa: PLW0603 - the allocator is one for the process
    if not _is_glibc():
        return False
    if _kept != kept:
        size = _KEPT_BYTES if kept else _GIVEN_BACK_BYTES
        values = ((_M_MMAP_THRESHOLD, size), (_M_TRIM_THRESHOLD, size), (_M_ARENA_MAX, _ARENAS))
        if not all(_libc().mallopt(name, value) == 1 for name, value in values):
            return False
        _kept = kept
    return True


@cache
def _libc() -> Any:
    return ctypes.CDLL(None)


@cache
def _is_glibc() -> bool:
    if sys.platform != "linux":
        return False
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (ValueError, OSError):  # musl has no such name
        return False
