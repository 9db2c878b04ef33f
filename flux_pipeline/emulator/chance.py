"""Repeatable random numbers: each depends on nothing but the parts that it is drawn for.

There is no generator with a state, so two processes, two orders of calls and two runs draw the
same.
"""

import hashlib
from statistics import NormalDist

_NORMAL = NormalDist()


def digest(*parts: object) -> bytes:
    """32 bytes that depend on the parts and their order."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode("utf-8", "replace")).digest()


def number(*parts: object) -> int:
    """An integer in [0, 2**64)."""
    return int.from_bytes(digest(*parts)[:8], "big")


def uniform(*parts: object) -> float:
    """A float in [0, 1)."""
    return (number(*parts) >> 11) / 2**53


def normal(*parts: object) -> float:
    """A float of the standard normal distribution, never infinite."""
    return _NORMAL.inv_cdf(min(max(uniform(*parts), 1e-9), 1 - 1e-9))
