"""Knows which images of a set the store holds, from one listing instead of a HEAD for each.

Before a request is paid for, the store is asked whether its image lies there already. In a run of
many new images nearly every answer is no, and a listing gives a thousand of them at once.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from threading import Lock

from flux_pipeline.store.base import Store

_FIRST = 4
"""Answers to single questions of a set before it is listed: a few are cheaper to ask. And a store
that can be listed and not read is noticed by them."""
_MOST = 5000
"""Keys; a larger set is not listed, because most of its images are none of this run."""
_FRESH_SECONDS = (5.0, 30.0)
"""After that, at least and at most, it is listed again: another worker may have stored something
meanwhile."""
_FRESH_TIMES = 200
"""How long a listing counts, as a multiple of what it took: half a percent of a run is listing."""


@dataclass(slots=True)
class _Listing:
    answered: int = 0
    is_too_large: bool = False
    keys: frozenset[str] = frozenset()
    listed_at: float = float("-inf")
    fresh_for: float = 0.0
    """Seconds."""


@dataclass(frozen=True, slots=True)
class StoredKeys:
    """The keys of the sets of one run, each listed where that pays. Thread-safe.

    The trap: "no" may be seconds old, and half a minute where listings take long. That is enough
    for what only a ledger restored from an old backup can bring about; where nothing may have come
    in between, ask the store itself.
    """

    store: Store
    clock: Callable[[], float] = time.monotonic
    _sets: dict[str, _Listing] = field(default_factory=dict)
    _listing: Lock = field(default_factory=Lock)

    def may_hold(self, key: str) -> bool:
        """Whether to ask the store for this key; lists its set where that is due. It blocks.

        Raises:
            StoreError: The set can't be listed.
        """
        with self._listing:
            found = self._sets.setdefault(_folder(key), _Listing())
            if found.answered < _FIRST or found.is_too_large:
                return True
            if not self._is_fresh(found):
                begun = self.clock()
                keys = frozenset(islice(self.store.list(_folder(key)), _MOST + 1))
                # In this order, because is_known_absent reads them without the lock.
                found.is_too_large = len(keys) > _MOST
                found.keys = keys
                found.fresh_for = _freshness(self.clock() - begun)
                found.listed_at = self.clock()
            return found.is_too_large or key in found.keys

    def is_known_absent(self, key: str) -> bool:
        """Whether the last listing shows that nothing lies under this key. Asks nobody."""
        found = self._sets.get(_folder(key))
        if found is None or found.is_too_large or not self._is_fresh(found):
            return False
        return key not in found.keys

    def is_listing_due(self, key: str) -> bool:
        """Whether its set is listed next, or after a few answers. Asks nobody."""
        found = self._sets.get(_folder(key))
        return found is None or not (found.is_too_large or self._is_fresh(found))

    def note_answer(self, key: str) -> None:
        """Note that the store has answered for a key."""
        self._sets.setdefault(_folder(key), _Listing()).answered += 1

    def _is_fresh(self, found: _Listing) -> bool:
        return self.clock() - found.listed_at < found.fresh_for


def _freshness(taken: float) -> float:
    """How long a listing counts that has taken so many seconds."""
    least, most = _FRESH_SECONDS
    return max(min(_FRESH_TIMES * taken, most), least)


def _folder(key: str) -> str:
    return f"{key.rpartition('/')[0]}/"
