"""How a prompt set's cut becomes Dagster partitions, and how chosen ones become ranges.

One run takes one unbroken range of keys, so that chosen keys become one range for each gap.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from zoneinfo import ZoneInfo

import dagster as dg

from flux_pipeline.prompts import ByDay, ByShard, PromptSet
from flux_pipeline.request import Request

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
MOST_SHARDS = 100
"""In one run, where the file says nothing else: of some hundred images each, a few hours' work."""
AT_ONCE = 20_000
"""Requests held at most (about 2 KB each), unless one shard alone has more."""


def build_partitions(prompt_set: PromptSet) -> dg.PartitionsDefinition[str]:
    """Static keys from the file, or days; the last of the days is the one that has begun."""
    cut = prompt_set.partitions
    if isinstance(cut, ByDay):
        start = datetime(
            cut.start.year, cut.start.month, cut.start.day, tzinfo=ZoneInfo(cut.timezone)
        )
        return dg.DailyPartitionsDefinition(start_date=start, timezone=cut.timezone, end_offset=1)
    return dg.StaticPartitionsDefinition(list(prompt_set.partition_keys()))


def most_a_run(prompt_set: PromptSet) -> int | None:
    """How many partitions one run takes; None for any number."""
    cut = prompt_set.partitions
    return cut.per_run or (MOST_SHARDS if isinstance(cut, ByShard) else None)


def build_backfill_policy(prompt_set: PromptSet) -> dg.BackfillPolicy:
    """Cut a backfill as ``runs_for`` cuts what a schedule or the command line asks for.

    One run wherever it takes all: ``dg launch --partition-range`` refuses any other policy.
    """
    most = most_a_run(prompt_set)
    fits = most is not None and 0 < len(prompt_set.partition_keys()) <= most
    if most is None or fits:
        return dg.BackfillPolicy.single_run()
    return dg.BackfillPolicy.multi_run(most)


def runs_for(
    prompt_set: PromptSet, known: Sequence[str], chosen: Collection[str]
) -> Iterator[dg.PartitionKeyRange]:
    """Cut ``chosen`` into the ranges of as few runs as possible, in the order of ``known``."""
    most = most_a_run(prompt_set) or len(known)
    wanted = frozenset(chosen)
    run: list[str] = []
    for key in known:
        if run and (key not in wanted or len(run) == most):
            yield dg.PartitionKeyRange(run[0], run[-1])
            run = []
        if key in wanted:
            run.append(key)
    if run:
        yield dg.PartitionKeyRange(run[0], run[-1])


def range_tags(keys: dg.PartitionKeyRange) -> dict[str, str]:
    """Tags that make a run take a range of partitions."""
    return {
        "dagster/asset_partition_range_start": keys.start,
        "dagster/asset_partition_range_end": keys.end,
    }


def due_times(cron: str, timezone: str, until: datetime) -> Iterator[datetime]:
    """When a cron line was due, from ``until`` back to the year 2000, in its own time zone.

    As Dagster's scheduler reckons: an hour that a clock change skips or repeats is due once.
    """
    # Partitions that begin with every tick: Dagster's public way to read a cron line.
    ticks = dg.TimeWindowPartitionsDefinition(
        start=_EPOCH, fmt="%Y-%m-%dT%H:%M", cron_schedule=cron, timezone=timezone
    )
    window = ticks.get_prev_partition_window(until)
    if window is not None:
        yield window.end
    while window is not None:
        yield window.start
        window = ticks.get_prev_partition_window(window.start)


@dataclass(slots=True)
class Content:
    """What one partition asks for."""

    requests: int = 0
    images: int = 0
    usd: float = 0.0
    """By estimate, if all of it had to be made."""
    prompt: str = ""
    """Of the first request, as it is sent."""


def read_contents(prompt_set: PromptSet, partitions: Sequence[str]) -> dict[str, Content]:
    """Count what the partitions ask for, in one pass; an empty shard has a content too.

    Raises:
        ConfigError: As ``PromptSet.requests``.
    """
    contents = {key: Content() for key in partitions}
    for request in prompt_set.requests(partitions):
        content = contents[request.source.partition]
        content.requests += 1
        content.images += request.outputs
        content.usd += request.cost_usd
        content.prompt = content.prompt or str(request.input.get("prompt", ""))
    return contents


def requests_by_partition(
    prompt_set: PromptSet, partitions: Sequence[str]
) -> Iterator[tuple[str, Iterable[Request]]]:
    """Give each partition with its requests; read one whole before the next is taken.

    Raises:
        ConfigError: As ``PromptSet.requests``.
    """
    if isinstance(prompt_set.partitions, ByShard):
        yield from _by_shard(prompt_set, deque(partitions))
    else:
        # A prompt's takes, and a day's prompts, follow each other.
        requests = prompt_set.requests(partitions)
        yield from groupby(requests, key=lambda request: request.source.partition)


def _by_shard(prompt_set: PromptSet, todo: deque[str]) -> Iterator[tuple[str, Iterable[Request]]]:
    at_once = 1
    while todo:
        shards: dict[str, list[Request]] = {
            todo.popleft(): [] for _ in range(min(at_once, len(todo)))
        }
        for request in prompt_set.requests(shards):
            shards[request.source.partition].append(request)
        at_once = max(1, AT_ONCE * len(shards) // max(1, sum(map(len, shards.values()))))
        yield from shards.items()
