"""Finds the prompt sets that a run has nothing to do for, which one Dagster run makes together.

A Dagster run of its own costs a set 0.15 s of CPU, which is felt where nothing else is done.
"""

from collections.abc import Mapping, Sequence

from flux_pipeline.errors import LedgerError
from flux_pipeline.produce.finished import MOST_REQUESTS
from flux_pipeline.prompts import ByDay, PromptSet, group_by_chain
from flux_pipeline.settings import Settings


def find_unchanged(
    settings: Settings,
    chosen: Sequence[PromptSet],
    asked: Mapping[str, Sequence[str] | None],
    images: Mapping[str, int],
) -> Sequence[PromptSet]:
    """The sets that can share a run: everything is made, and nothing of theirs needs a run alone.

    A run alone is needed by a set that is published, that is made for pictures of another or
    followed by one, or of which only some partitions are asked for. What a set may spend in a run
    is counted for each set. ``images`` are those asked for of each set. Empty where there is one
    such set at most.
    """
    alone = [chain[0] for chain in group_by_chain(chosen) if len(chain) == 1]
    candidates = [
        each
        for each in alone
        if images[each.name] <= MOST_REQUESTS and _may_share(each, asked[each.name])
    ]
    if len(candidates) < 2:  # noqa: PLR2004  one has nothing to share with
        return []
    from flux_pipeline.ledger.open import open_ledger
    from flux_pipeline.produce.plan import forecast

    try:
        with open_ledger(settings.ledger) as ledger:
            unchanged = [
                each
                for each in candidates
                if (found := forecast(each.requests(), ledger).total).unchanged == found.requests
            ]
    except LedgerError:  # their own runs say what is wrong with it
        return []
    return unchanged if len(unchanged) > 1 else []


def _may_share(prompt_set: PromptSet, partitions: Sequence[str] | None) -> bool:
    return (
        prompt_set.publish is None
        and not prompt_set.sources
        and not isinstance(prompt_set.partitions, ByDay)
        and prompt_set.partitions.per_run is None
        and (partitions is None or set(partitions) == set(prompt_set.partition_keys()))
    )
