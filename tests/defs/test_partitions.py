"""Partitions: keys from the file, days until today, and ranges without gaps."""

from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.defs.build import without_beta_warnings
from flux_pipeline.defs.partitions import (
    MOST_SHARDS,
    build_backfill_policy,
    build_partitions,
    range_tags,
    runs_for,
)
from flux_pipeline.prompts import PromptSet, build_prompt_set

MODEL = "lucataco/flux-schnell-lora"


def a_set(**document: object) -> PromptSet:
    return build_prompt_set("winter", {"model": MODEL, "prompts": {"a": "a", "b": "b"}, **document})


def ends(ranges: Sequence[dg.PartitionKeyRange]) -> list[tuple[str, str]]:
    return [(each.start, each.end) for each in ranges]


def test_partitions_by_prompt_have_the_order_of_the_file() -> None:
    partitions = build_partitions(a_set(prompts={"zoo": "z", "ape": "a"}))
    assert partitions.get_partition_keys() == ["zoo", "ape"]


def test_partitions_by_shard_are_as_many_as_the_file_says() -> None:
    partitions = build_partitions(a_set(partitions={"by": "shard", "count": 3}))
    assert partitions.get_partition_keys() == ["shard-0000", "shard-0001", "shard-0002"]


def test_days_end_with_the_one_that_has_begun_where_the_file_lives() -> None:
    diary = a_set(partitions={"by": "day", "start": "2026-11-01", "timezone": "Asia/Shanghai"})
    partitions = build_partitions(diary)
    evening = datetime(2026, 11, 3, 15, 59, tzinfo=UTC)
    night = datetime(2026, 11, 3, 16, 1, tzinfo=UTC)
    assert partitions.get_partition_keys(evening) == ["2026-11-01", "2026-11-02", "2026-11-03"]
    assert partitions.get_partition_keys(night)[-1] == "2026-11-04"


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("abcde", [("a", "e")]),
        ("ace", [("a", "a"), ("c", "c"), ("e", "e")]),
        ("abde", [("a", "b"), ("d", "e")]),
        ("edc", [("c", "e")]),
        ("c", [("c", "c")]),
        ("", []),
        ("x", []),
    ],
)
def test_chosen_partitions_become_a_run_for_each_gap(
    chosen: str, expected: list[tuple[str, str]]
) -> None:
    assert ends(list(runs_for(a_set(), "abcde", chosen))) == expected


@given(st.sets(st.integers(0, 30)), st.integers(1, 31))
def test_runs_take_each_chosen_partition_once_and_no_other(chosen: set[int], count: int) -> None:
    known = [f"{number:02d}" for number in range(count)]
    wanted = {f"{number:02d}" for number in chosen if number < count}
    taken = [
        key
        for each in runs_for(a_set(), known, wanted)
        for key in known[known.index(each.start) : known.index(each.end) + 1]
    ]
    assert taken == sorted(wanted)


def test_many_shards_are_several_runs_and_many_prompts_are_one() -> None:
    known = [f"k{number:04d}" for number in range(2 * MOST_SHARDS + 1)]
    shards = a_set(partitions={"by": "shard", "count": len(known)})
    assert [each.start for each in runs_for(shards, known, known)] == ["k0000", "k0100", "k0200"]
    assert ends(list(runs_for(a_set(), known, known))) == [("k0000", "k0200")]


@pytest.mark.parametrize(
    ("cut", "most"),
    [
        ({"by": "prompt"}, None),
        ({"by": "prompt", "per_run": 1}, 1),
        ({"by": "prompt", "per_run": 2}, None),  # both prompts fit into one run
        ({"by": "shard", "count": MOST_SHARDS}, None),
        ({"by": "shard", "count": MOST_SHARDS + 1}, MOST_SHARDS),
        ({"by": "shard", "count": 8, "per_run": 3}, 3),
        ({"by": "day", "start": "2026-11-01"}, None),
        ({"by": "day", "start": "2026-11-01", "per_run": 7}, 7),
    ],
)
def test_a_backfill_is_cut_into_runs_as_the_file_says(
    cut: dict[str, object], most: int | None
) -> None:
    single, several = dg.BackfillPolicy.single_run(), dg.BackfillPolicy.multi_run
    wanted = single if most is None else several(most)
    assert build_backfill_policy(a_set(partitions=cut)) == wanted


def test_the_command_line_and_schedules_cut_alike() -> None:
    known = ["a", "b", "c", "d", "e"]
    pairs = a_set(partitions={"by": "prompt", "per_run": 2})
    assert ends(list(runs_for(pairs, known, known))) == [("a", "b"), ("c", "d"), ("e", "e")]


def test_a_range_of_partitions_is_given_by_dagsters_own_tags() -> None:
    tags = range_tags(dg.PartitionKeyRange("b", "c"))
    keys: list[str] = []

    with without_beta_warnings():

        @dg.asset(
            partitions_def=dg.StaticPartitionsDefinition(["a", "b", "c", "d"]),
            backfill_policy=dg.BackfillPolicy.single_run(),
        )
        def probe(context: dg.AssetExecutionContext) -> None:
            keys.extend(context.partition_keys)

    assert dg.materialize([probe], tags=tags).success
    assert keys == ["b", "c"]
