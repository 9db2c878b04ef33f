"""Remembers which partitions of large tables were checked, and the prompts of the last of them.

A run asks for the same partitions several times: to count, to hash and to send their requests.
Without this the whole table would be read twice each time, however little of it they hold.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Generic, TypeVar

from flux_pipeline.errors import Problem

MOST_PROMPTS = 10_000
"""Prompts that are kept in all, about 1 KB each."""
_MOST_CHECKS = 8

Set = TypeVar("Set")
Prompt = TypeVar("Prompt")


@dataclass(frozen=True, slots=True)
class Checked(Generic[Set, Prompt]):
    """What one check of some partitions of a set came to."""

    prompt_set: Set
    keys: frozenset[str] | None
    """The partitions; all of the set where it is None."""
    warnings: tuple[Problem, ...]
    prompts: Sequence[Prompt] | None = None
    """Those that the partitions hold, in order; None where they are not kept."""

    def covers(self, prompt_set: Set, keys: frozenset[str] | None) -> bool:
        """Whether these partitions of an equal set were checked, perhaps among others."""
        if self.keys is not None and (keys is None or not keys <= self.keys):
            return False
        return self.prompt_set is prompt_set or self.prompt_set == prompt_set


@dataclass(slots=True)
class CheckedPartitions(Generic[Set, Prompt]):
    """The last few checks of this process. Thread-safe.

    A set must equal another one only if both have the same bytes in their files. The trap: a table
    that changed since it was loaded is not noticed here; ask ``Table.is_unchanged`` before.
    """

    _checks: "deque[Checked[Set, Prompt]]" = field(
        default_factory=lambda: deque(maxlen=_MOST_CHECKS)
    )
    """The latest first."""
    _lock: Lock = field(default_factory=Lock)

    def find(self, prompt_set: Set, keys: frozenset[str] | None) -> Checked[Set, Prompt] | None:
        """The check of exactly these partitions."""
        with self._lock:
            found = (each for each in self._checks if each.keys == keys)
            return next((each for each in found if each.covers(prompt_set, keys)), None)

    def cover(self, prompt_set: Set, keys: frozenset[str] | None) -> bool:
        """Whether these partitions were checked, perhaps among others."""
        with self._lock:
            return any(each.covers(prompt_set, keys) for each in self._checks)

    def add(self, checked: Checked[Set, Prompt]) -> None:
        """Remember a check that found nothing wrong; forget the prompts of the oldest ones."""
        with self._lock:
            kept, left = [], MOST_PROMPTS
            for each in (checked, *self._checks):
                left -= len(each.prompts or ())
                kept.append(each if left >= 0 else replace(each, prompts=None))
            self._checks = deque(kept[:_MOST_CHECKS])


@dataclass(slots=True)
class Collector(Generic[Prompt]):
    """Collects the prompts of a check, unless they are too many to be kept."""

    found: list[Prompt] | None = field(default_factory=list)
    """None from more than ``MOST_PROMPTS`` on."""

    def add(self, prompt: Prompt) -> None:
        """Add one."""
        if self.found is None:
            return
        self.found.append(prompt)
        if len(self.found) > MOST_PROMPTS:
            self.found = None
