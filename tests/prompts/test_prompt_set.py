"""Partitions, requests, seeds and data versions of a loaded prompt set."""

import pickle
from datetime import date

import pytest

from flux_pipeline.errors import ConfigError
from flux_pipeline.models import find_model
from flux_pipeline.prompts import (
    ByDay,
    ByPrompt,
    ByShard,
)
from flux_pipeline.prompts.expansion import Variant
from flux_pipeline.prompts.prompt_set import partition_of, select, shard_key, shard_of
from tests.prompts.fixtures import Load, Write, seeds

HARBOUR = """\
prompts:
  castle: a castle
  harbour:
    prompt: "a {weather} harbour at {hour}"
    matrix: {weather: [calm, stormy], hour: [dawn, dusk]}
    takes: 3
"""


def test_the_same_file_gives_the_same_requests(load: Load) -> None:
    assert list(load(HARBOUR).requests()) == list(load(HARBOUR).requests())


def test_one_partition_several_and_all(load: Load) -> None:
    prompt_set = load(HARBOUR)
    everything = list(prompt_set.requests())
    one = list(prompt_set.requests("harbour-calm-dusk"))
    assert one == [r for r in everything if r.source.partition == "harbour-calm-dusk"]
    assert [request.source.take for request in one] == [1, 2, 3]
    several = list(prompt_set.requests(["harbour-calm-dusk", "castle"]))
    assert [r.source.partition for r in several] == ["castle", *["harbour-calm-dusk"] * 3]
    assert list(prompt_set.requests([])) == []
    assert {r.source.partition for r in everything} == set(prompt_set.partition_keys())


def test_an_unknown_partition_is_refused_before_the_first_request(load: Load) -> None:
    with pytest.raises(
        ConfigError, match="no partition harbour-calm-dust; near it: harbour-calm-dusk"
    ):
        load(HARBOUR).requests("harbour-calm-dust")


def test_derived_seeds_are_unique_stable_and_of_31_bits(load: Load) -> None:
    found = seeds(list(load(HARBOUR).requests()))
    assert len(set(found)) == len(found) == 13
    assert all(seed is not None and 0 <= seed < 2**31 for seed in found)
    # A change of this value means that every image ever made would be paid for again.
    assert found[0] == 1453647956


def test_how_a_set_is_partitioned_changes_no_seed(load: Load) -> None:
    by_prompt = load(HARBOUR).requests()
    by_shard = load(HARBOUR + "partitions: {by: shard, count: 3}\n").requests()
    assert [r.request_sha256 for r in by_prompt] == [r.request_sha256 for r in by_shard]


SHARDS = "prompts:\n" + "".join(f"  p{n}: prompt {n}\n" for n in range(200))


def test_shards_are_few_named_and_hold_everything_once(load: Load) -> None:
    prompt_set = load(SHARDS + "partitions: {by: shard, count: 8}\n")
    assert prompt_set.partition_keys() == tuple(f"shard-000{n}" for n in range(8))
    names = [
        request.source.prompt_name
        for key in prompt_set.partition_keys()
        for request in prompt_set.requests(key)
    ]
    assert sorted(names) == sorted(f"p{n}" for n in range(200))
    assert prompt_set.partitions == ByShard(by="shard", count=8)


def test_a_new_prompt_moves_no_other(load: Load) -> None:
    by_shard = "partitions: {by: shard, count: 8}\n"
    before = {r.source.prompt_name: r.source.partition for r in load(SHARDS + by_shard).requests()}
    grown = SHARDS.replace("  p100:", "  another: prompt\n  p100:")
    after = {r.source.prompt_name: r.source.partition for r in load(grown + by_shard).requests()}
    assert after.pop("another").startswith("shard-")
    assert after == before


DAYS = """\
prompts: {a: "a street on {date}", b: a window}
partitions: {by: day, start: 2026-11-01, timezone: Europe/Berlin}
"""


def test_a_day_changes_seeds_and_date_and_can_be_made_again(load: Load) -> None:
    prompt_set = load(DAYS)
    first, second = (list(prompt_set.requests(day)) for day in ("2026-11-01", "2026-11-02"))
    assert first[0].input["prompt"] == "a street on 2026-11-01"
    assert {r.source.partition for r in second} == {"2026-11-02"}
    assert len({*seeds(first), *seeds(second)}) == 4
    assert list(load(DAYS).requests("2026-11-02")) == second
    assert list(prompt_set.requests(["2026-11-02", "2026-11-01"])) == first + second


def test_days_have_no_list_of_keys_and_must_be_named(load: Load) -> None:
    prompt_set = load(DAYS)
    assert isinstance(prompt_set.partitions, ByDay)
    assert prompt_set.partition_keys() == ()
    with pytest.raises(ConfigError, match="name those that are meant"):
        prompt_set.requests()
    assert prompt_set.check() == ()


@pytest.mark.parametrize(
    ("day", "words"),
    [
        ("2026-10-31", "before the first day, 2026-11-01"),
        ("2026-11-31", "no day of the calendar"),
        ("20261101", "YYYY-MM-DD"),
        ("tomorrow", "YYYY-MM-DD"),
    ],
)
def test_other_days_are_refused(load: Load, day: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load(DAYS).requests(day)


def test_an_edit_changes_the_data_version_of_its_partition_alone(load: Load) -> None:
    keys = ["castle", "harbour-calm-dawn"]
    before = load(HARBOUR).data_versions(keys)
    after = load(HARBOUR.replace("a castle", "a red castle")).data_versions(keys)
    assert before["castle"] != after["castle"]
    assert before["harbour-calm-dawn"] == after["harbour-calm-dawn"]
    assert load(HARBOUR).data_version("castle") == before["castle"]
    assert load(HARBOUR).data_versions("castle") == {"castle": before["castle"]}


def test_what_changes_no_request_changes_no_data_version(load: Load) -> None:
    partitions = "partitions: {by: shard, count: 1}\n"
    other = "prompts:\n  c: d   # comment\n  a: {prompt: b, num_outputs: 1}\n"
    assert load("prompts: {a: b, c: d}\n" + partitions).data_version("shard-0000") == load(
        other + partitions
    ).data_version("shard-0000")


def test_a_lost_take_changes_the_data_version(load: Load) -> None:
    fewer = HARBOUR.replace("takes: 3", "takes: 2")
    key = "harbour-calm-dawn"
    assert load(HARBOUR).data_version(key) != load(fewer).data_version(key)


def test_a_table_that_changed_since_loading_is_refused(write: Write, load: Load) -> None:
    table = write("t.csv", "name\na\n")
    prompt_set = load('prompts: {a: {prompt: "{name}", table: t.csv}}\n')
    table.touch()
    assert len(list(prompt_set.requests())) == 1
    write("t.csv", "name\nb\n")
    with pytest.raises(ConfigError, match="changed since it was loaded: load it again"):
        prompt_set.requests()
    table.unlink()
    with pytest.raises(ConfigError, match="changed since it was loaded"):
        prompt_set.requests()


def test_a_prompt_set_is_a_value(load: Load) -> None:
    prompt_set = load(HARBOUR)
    assert hash(prompt_set) == hash(load(HARBOUR))
    copy = pickle.loads(pickle.dumps(prompt_set))  # noqa: S301 -- our own bytes
    assert list(copy.requests()) == list(prompt_set.requests())


PROMPT = ByPrompt(by="prompt")

SHARD = ByShard(by="shard", count=5)

DAY = ByDay(by="day", start=date(2026, 11, 1))


def named(name: str) -> Variant:
    return Variant(name, {}, None, find_model("lucataco/flux-schnell-lora"))


def test_the_partition_of_a_prompt() -> None:
    assert partition_of(PROMPT, named("castle"), "") == "castle"
    assert partition_of(SHARD, named("castle"), "") == shard_key(shard_of("castle", 5))
    assert partition_of(DAY, named("castle"), "2026-11-02") == "2026-11-02"


def test_all_partitions_include_every_prompt() -> None:
    for partitioning in (PROMPT, SHARD, DAY):
        assert select(partitioning, (), None).filter() is None


def test_of_all_partitions_nothing_is_picked() -> None:
    assert select(PROMPT, ("castle", "harbour"), ["harbour", "castle"]).filter() is None
    assert select(SHARD, [shard_key(0), shard_key(1)], [shard_key(1), shard_key(0)]).keys is None
    assert select(DAY, (), ["2026-11-01"]).keys == {"2026-11-01"}


def test_some_partitions_include_their_own_prompts() -> None:
    is_in = select(PROMPT, ("castle", "harbour"), "castle").filter()
    assert is_in is not None
    assert [is_in(name, "") for name in ("castle", "harbour")] == [True, False]
    # Of a name that was made readable, the stable one decides which shard it is in.
    keys = [shard_key(index) for index in range(5)]
    is_in = select(SHARD, keys, [shard_key(shard_of("castle", 5))]).filter()
    assert is_in is not None
    assert is_in("castle", "")
    assert is_in("cheng-bao", "castle")
    assert sum(is_in(f"p{number}", "") for number in range(1_000)) < 300


def test_many_prompts_are_chosen_as_each_of_them_is() -> None:
    names = [f"castle-{number}" for number in range(200)]
    for partitioning in (PROMPT, SHARD):
        known = names if partitioning is PROMPT else [shard_key(index) for index in range(5)]
        is_in = select(partitioning, known, known[1:3]).filter()
        assert is_in is not None
        many = is_in.many(names, names)
        assert many == [is_in(name, "") for name in names]
        assert 0 < sum(many) < len(names)


def test_every_day_includes_every_prompt() -> None:
    chosen = select(DAY, (), ["2026-11-03", "2026-11-01"])
    assert chosen.filter() is None
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
