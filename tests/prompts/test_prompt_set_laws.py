"""Laws of expansion, partitions and seeds, held against generated tables and names."""

import csv
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.prompts import PromptSet, build_prompt_set
from flux_pipeline.prompts.drafts import derived_seed
from flux_pipeline.prompts.prompt_set import shard_key, shard_of

keys = st.text(alphabet="abcdefgh0123456789", min_size=1, max_size=6)

texts = st.text(alphabet="abc é城{}\"', \n", min_size=1, max_size=12).filter(str.strip)

tables = st.dictionaries(keys, texts, min_size=1, max_size=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


def set_of(folder: Path, rows: list[tuple[str, str]], count: int = 4) -> PromptSet:
    with (folder / "t.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["key", "text"])
        writer.writerows(rows)
    document = {
        "model": "lucataco/flux-schnell-lora",
        "prompts": {"p": {"prompt": "{text}", "table": "t.csv", "key": "key", "takes": 2}},
        "partitions": {"by": "shard", "count": count},
    }
    return build_prompt_set("x", document, folder=folder)


def places(prompt_set: PromptSet) -> dict[tuple[str, int], tuple[str, str]]:
    return {
        (request.source.prompt_name, request.source.take): (
            request.source.partition,
            request.request_sha256,
        )
        for request in prompt_set.requests()
    }


@settings(max_examples=20)
@given(rows=tables)
def test_expansion_is_deterministic(folder: Path, rows: dict[str, str]) -> None:
    first = list(set_of(folder, [*rows.items()]).requests())
    assert first == list(set_of(folder, [*rows.items()]).requests())
    assert [request.input["prompt"] for request in first[::2]] == [*rows.values()]


@settings(max_examples=20)
@given(rows=tables, key=keys, text=texts, data=st.data())
def test_a_new_row_moves_no_other_row_and_changes_no_other_request(
    folder: Path, rows: dict[str, str], key: str, text: str, data: st.DataObject
) -> None:
    before = places(set_of(folder, [*rows.items()]))
    grown = [*rows.items()]
    if key not in rows:
        grown.insert(data.draw(st.integers(0, len(rows))), (key, text))
    after = places(set_of(folder, grown))
    assert before.items() <= after.items()


@settings(max_examples=15)
@given(rows=tables, count=st.integers(1, 5))
def test_shards_hold_every_request_once(folder: Path, rows: dict[str, str], count: int) -> None:
    prompt_set = set_of(folder, [*rows.items()], count)
    by_shard = [list(prompt_set.requests(key)) for key in prompt_set.partition_keys()]
    everything = list(prompt_set.requests())
    assert sorted(r.request_sha256 for shard in by_shard for r in shard) == sorted(
        r.request_sha256 for r in everything
    )
    assert list(prompt_set.requests(prompt_set.partition_keys())) == everything


@settings(max_examples=15)
@given(rows=tables, random=st.randoms())
def test_the_data_version_of_a_shard_knows_no_order(
    folder: Path, rows: dict[str, str], random: Any
) -> None:
    shuffled = [*rows.items()]
    random.shuffle(shuffled)
    keys_ = [shard_key(index) for index in range(4)]
    before = set_of(folder, [*rows.items()]).data_versions(keys_)
    assert set_of(folder, shuffled).data_versions(keys_) == before


@given(keys, st.integers(1, 10_000))
def test_a_shard_is_in_range_and_stable(name: str, count: int) -> None:
    assert 0 <= shard_of(name, count) < count
    assert shard_of(name, count) == shard_of(name, count)


def test_shards_are_filled_evenly() -> None:
    counts = [0] * 10
    for number in range(10_000):
        counts[shard_of(f"p-{number}", 10)] += 1
    assert all(850 < count < 1_150 for count in counts)


@given(keys, keys, st.integers(1, 1_000), st.sampled_from(["", "2026-11-01", "2026-11-02"]))
def test_a_seed_has_31_bits_and_depends_on_each_of_its_parts(
    prompt_set: str, name: str, take: int, day: str
) -> None:
    seed = derived_seed(prompt_set, name, take, day)
    assert 0 <= seed < 2**31
    assert seed == derived_seed(prompt_set, name, take, day)
    others = {
        derived_seed(prompt_set + "x", name, take, day),
        derived_seed(prompt_set, name + "x", take, day),
        derived_seed(prompt_set, name, take + 1, day),
        derived_seed(prompt_set, name, take, day + "x"),
    }
    assert seed not in others


def test_seeds_do_not_collide_among_ten_thousand() -> None:
    seeds = {derived_seed("s", f"p{n}", 1) for n in range(10_000)}
    assert len(seeds) > 9_995
