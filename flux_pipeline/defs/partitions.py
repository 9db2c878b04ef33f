"""Dagster partitions of a prompt set, the ranges of keys that runs take, and their requests.

A run takes one unbroken range of keys, so chosen keys with gaps between them need several runs.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from zoneinfo import ZoneInfo

import dagster as dg

from flux_pipeline.prompts import ByDay, ByShard, PromptSet
from flux_pipeline.prompts.chain import PictureLookup
from flux_pipeline.prompts.drafts import Draft
from flux_pipeline.request import Request

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
MOST_SHARDS = 100
"""In one run, unless the file says otherwise: with some hundred images each, a few hours' work."""
AT_ONCE = 10_000
"""Requests in memory at most (0.8 KB each), unless one shard alone has more."""


def build_partitions(prompt_set: PromptSet) -> dg.PartitionsDefinition[str]:
    """Build static partitions with the file's keys, or daily ones up to today, which has begun."""
    partitioning = prompt_set.partitions
    if isinstance(partitioning, ByDay):
        start = datetime(
            partitioning.start.year,
            partitioning.start.month,
            partitioning.start.day,
            tzinfo=ZoneInfo(partitioning.timezone),
        )
        return dg.DailyPartitionsDefinition(
            start_date=start, timezone=partitioning.timezone, end_offset=1
        )
    return dg.StaticPartitionsDefinition(list(prompt_set.partition_keys()))


def known_partitions(prompt_set: PromptSet) -> Sequence[str] | None:
    """All partitions of the set; None where they are days, which never end."""
    return None if isinstance(prompt_set.partitions, ByDay) else prompt_set.partition_keys()


def run_partitions(
    context: dg.AssetExecutionContext | dg.OpExecutionContext, prompt_set: PromptSet
) -> Sequence[str]:
    """The run's partitions; all where it names none, as ``dagster job execute`` does.

    Raises:
        dagster.Failure: The set is made by day, and the run names none: days never end.
    """
    if context.has_partition_key or context.has_partition_key_range:
        return list(context.partition_keys)
    if isinstance(prompt_set.partitions, ByDay):
        raise dg.Failure(
            description=f"{prompt_set.name} is made by day: name a day, or a range of days, as the"
            " run's partition",
            allow_retries=False,
        )
    return prompt_set.partition_keys()


def max_partitions_per_run(prompt_set: PromptSet) -> int | None:
    """How many partitions one run takes; None for any number."""
    partitioning = prompt_set.partitions
    return partitioning.per_run or (MOST_SHARDS if isinstance(partitioning, ByShard) else None)


def build_backfill_policy(prompt_set: PromptSet) -> dg.BackfillPolicy:
    """Build the policy that splits a backfill into runs as ``runs_for`` does.

    A single run where one run takes all: ``dg launch --partition-range`` refuses another policy.
    """
    most = max_partitions_per_run(prompt_set)
    fits = most is not None and 0 < len(prompt_set.partition_keys()) <= most
    if most is None or fits:
        return dg.BackfillPolicy.single_run()
    return dg.BackfillPolicy.multi_run(most)


def runs_for(
    prompt_set: PromptSet, known: Sequence[str], chosen: Collection[str]
) -> Iterator[dg.PartitionKeyRange]:
    """Split ``chosen`` into as few ranges as possible, one a run, in the order of ``known``."""
    most = max_partitions_per_run(prompt_set) or len(known)
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
    """Times at which a cron line was due, from ``until`` back to the year 2000, in its time zone.

    As Dagster's scheduler has them: an hour that a clock change skips or repeats is due once.
    """
    # Partitions that begin with every tick are Dagster's public way to evaluate a cron line.
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
    """The size of one partition: its requests, images and cost."""

    requests: int = 0
    images: int = 0
    usd: float = 0.0
    """Estimated, if all of it had to be made."""
    prompt: str = ""
    """Of the first request, as it is sent."""
    data_version: str = ""
    """As ``PromptSet.data_versions`` has it."""


def read_contents(prompt_set: PromptSet, partitions: Sequence[str]) -> dict[str, Content]:
    """Count requests, images and cost of each partition in one pass; an empty shard counts too.

    Raises:
        ConfigError: As ``PromptSet.requests``.
    """
    contents = {key: Content() for key in partitions}

    def count(draft: Draft) -> None:
        content = contents[draft.partition]
        content.requests += 1
        content.images += draft.form.outputs
        content.usd += draft.form.cost_usd
        content.prompt = content.prompt or draft.checked.prompt

    for key, version in prompt_set.data_versions(partitions, count).items():
        contents[key].data_version = version
    return contents


def requests_by_partition(
    prompt_set: PromptSet, partitions: Sequence[str], pictures: PictureLookup | None = None
) -> Iterator[tuple[str, Iterable[Request]]]:
    """Give each partition with its requests, lazily: use up the requests of one before the next.

    ``pictures`` finds those of the sets before this one; without it all are planned.

    A shard's prompts are scattered over the whole file, and each pass over a large table takes
    time. So one pass reads as many shards as fit into ``AT_ONCE`` requests.

    Raises:
        ConfigError: As ``PromptSet.requests``.
    """
    if isinstance(prompt_set.partitions, ByShard):
        yield from _by_shard(prompt_set, deque(partitions), pictures)
    elif prompt_set.follows is not None:
        yield from _by_source(prompt_set, partitions, pictures)
    else:
        # These come in the order of their partitions already.
        requests = prompt_set.requests(partitions, pictures=pictures)
        yield from groupby(requests, key=lambda request: request.source.partition)


def _by_source(
    prompt_set: PromptSet, partitions: Sequence[str], pictures: PictureLookup | None
) -> Iterator[tuple[str, Iterable[Request]]]:
    """Of a set that follows another one: each of its prompts goes through all source pictures."""
    found: dict[str, list[Request]] = {key: [] for key in partitions}
    for request in prompt_set.requests(partitions, pictures=pictures):
        found[request.source.partition].append(request)
    yield from found.items()


def _by_shard(
    prompt_set: PromptSet, left: deque[str], pictures: PictureLookup | None
) -> Iterator[tuple[str, Iterable[Request]]]:
    at_once = 1  # shard: how many requests one has is known after the first
    while left:
        shards: dict[str, list[Request]] = {
            left.popleft(): [] for _ in range(min(at_once, len(left)))
        }
        for request in prompt_set.requests(shards, pictures=pictures):
            shards[request.source.partition].append(request)
        at_once = max(1, AT_ONCE * len(shards) // max(1, sum(map(len, shards.values()))))
        yield from shards.items()
