"""Which partitions there are, which are asked for, and what is in them."""

from datetime import date

import pytest

from flux_pipeline.prompts.prompt_set import partition_of, select, shard_key, shard_of
from flux_pipeline.prompts.schema import ByDay, ByPrompt, ByShard

PROMPT = ByPrompt(by="prompt")
SHARD = ByShard(by="shard", count=5)
DAY = ByDay(by="day", start=date(2026, 11, 1))


def test_the_partition_of_a_prompt() -> None:
    assert partition_of(PROMPT, "castle", "") == "castle"
    assert partition_of(SHARD, "castle", "") == shard_key(shard_of("castle", 5))
    assert partition_of(DAY, "castle", "2026-11-02") == "2026-11-02"


def test_all_partitions_include_every_prompt() -> None:
    for partitioning in (PROMPT, SHARD, DAY):
        assert select(partitioning, (), None).includes("castle")


def test_some_partitions_include_their_own_prompts() -> None:
    chosen = select(PROMPT, ("castle", "harbour"), "castle")
    assert chosen.includes("castle")
    assert not chosen.includes("harbour")
    key = shard_key(shard_of("castle", 5))
    chosen = select(SHARD, [shard_key(index) for index in range(5)], [key])
    assert chosen.includes("castle")
    assert sum(chosen.includes(f"p{number}") for number in range(1_000)) < 300


def test_every_day_includes_every_prompt() -> None:
    chosen = select(DAY, (), ["2026-11-03", "2026-11-01"])
    assert chosen.includes("castle")
    assert chosen.days == ("2026-11-01", "2026-11-03")


def test_where_partitions_are_no_days_there_is_one_without_a_name() -> None:
    assert select(PROMPT, ("castle",), "castle").days == ("",)
    assert select(SHARD, (), None).days == ("",)


def test_all_days_stand_for_the_first() -> None:
    assert select(DAY, (), None).days == ("2026-11-01",)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("castel", "no partition castel; near it: castle"),
        ("zzz", "no partition zzz; 1 others exist"),
    ],
)
def test_an_unknown_partition_is_refused(key: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        select(PROMPT, ("castle",), key)
