"""How a prompt set's cut becomes Dagster partitions, and how chosen ones become ranges.

One run takes one unbroken range of keys, so that chosen keys become one range for each gap.
"""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

import dagster as dg

from flux_pipeline.prompts import ByDay, ByShard, PromptSet

MOST_SHARDS = 100
"""In one run, where the file says nothing else: of some hundred images each, a few hours' work."""


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
