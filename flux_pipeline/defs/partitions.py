"""How a prompt set's cut becomes Dagster partitions, and how chosen ones become ranges.

One run takes one unbroken range of keys, so that chosen keys become one range for each gap.
"""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

import dagster as dg

from flux_pipeline.prompts import ByDay, ByPrompt, PromptSet

SHARDS_A_RUN = 100
"""Of some hundred images each: a few hours at the usual rate, lost to nobody if a run dies."""


def build_partitions(prompt_set: PromptSet) -> dg.PartitionsDefinition[str]:
    """Static keys from the file, or days; the last of the days is the one that has begun."""
    cut = prompt_set.partitions
    if isinstance(cut, ByDay):
        start = datetime(
            cut.start.year, cut.start.month, cut.start.day, tzinfo=ZoneInfo(cut.timezone)
        )
        return dg.DailyPartitionsDefinition(start_date=start, timezone=cut.timezone, end_offset=1)
    return dg.StaticPartitionsDefinition(list(prompt_set.partition_keys()))


def runs_for(
    prompt_set: PromptSet, known: Sequence[str], chosen: Collection[str]
) -> Iterator[dg.PartitionKeyRange]:
    """Cut ``chosen`` into the ranges of as few runs as possible, in the order of ``known``."""
    most = len(known) if isinstance(prompt_set.partitions, ByPrompt) else SHARDS_A_RUN
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
