"""How a set is cut into partitions, and which of them are asked for."""

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeAlias

from flux_pipeline.prompts.form import ByDay, ByPrompt, ByShard, parse_day
from flux_pipeline.prompts.shards import shard_key, shard_of

Cut: TypeAlias = ByPrompt | ByShard | ByDay


def partition_of(cut: Cut, prompt_name: str, day: str) -> str:
    """The partition of a prompt; with partitions by day, the day itself."""
    if isinstance(cut, ByShard):
        return shard_key(shard_of(prompt_name, cut.count))
    return day if isinstance(cut, ByDay) else prompt_name


@dataclass(frozen=True, slots=True)
class Selection:
    """Some partitions, or (None) all of them."""

    cut: Cut
    keys: frozenset[str] | None

    @property
    def days(self) -> tuple[str, ...]:
        """The days in order; one empty text where partitions aren't days."""
        if not isinstance(self.cut, ByDay):
            return ("",)
        return (self.cut.start.isoformat(),) if self.keys is None else tuple(sorted(self.keys))

    def wants(self, prompt_name: str) -> bool:
        """Whether a prompt is in any of the partitions."""
        if self.keys is None or isinstance(self.cut, ByDay):
            return True
        return partition_of(self.cut, prompt_name, "") in self.keys


def select(cut: Cut, known: Collection[str], partitions: str | Collection[str] | None) -> Selection:
    """The selection of one partition, of several or of all; ``known`` are the keys, if not days.

    Raises:
        ValueError: no such partition; names the nearest.
    """
    if partitions is None:
        return Selection(cut, None)
    keys = frozenset([partitions] if isinstance(partitions, str) else partitions)
    known = frozenset(known)
    for key in sorted(keys):
        if isinstance(cut, ByDay):
            if parse_day(key) < cut.start:
                raise ValueError(f"{key} is before the first day, {cut.start}")
        elif key not in known:
            near = difflib.get_close_matches(key, known, n=3)
            hint = f"near it: {', '.join(near)}" if near else f"{len(known)} others exist"
            raise ValueError(f"no partition {key}; {hint}")
    return Selection(cut, keys)
