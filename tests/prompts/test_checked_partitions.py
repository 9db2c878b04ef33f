"""Each test reads tables that count as too large to be looked at on loading."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flux_pipeline.errors import ConfigError
from flux_pipeline.prompts import checked_partitions, tables
from flux_pipeline.prompts import load as loading
from flux_pipeline.prompts.drafts import Draft
from flux_pipeline.prompts.expansion import Entry, Variant
from flux_pipeline.prompts.inputs import CheckedInput, InputChecker
from flux_pipeline.prompts.tables import Row, Table
from tests.prompts.fixtures import Load, Write

BY_SHARD = """\
prompts: {p: {prompt: "{name}", table: t.csv, key: sku}}
partitions: {by: shard, count: 4}
"""


def table(rows: int, name: str = "product") -> str:
    return "sku,name\n" + "".join(f"S-{n},{name} {n}\n" for n in range(rows))


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The tables in the order in which they are read after loading; each as often as it is."""
    monkeypatch.setattr(loading, "MAX_TABLE_BYTES", 0)
    seen: list[Path] = []
    rows = Table.rows

    def counted(table: Table, *args: Any, **options: Any) -> Iterator[Row]:
        seen.append(table.path)
        return rows(table, *args, **options)

    monkeypatch.setattr(Table, "rows", counted)
    return seen


def test_a_partition_that_is_asked_for_again_costs_no_pass_over_the_table(
    write: Write, load: Load, passes: list[Path]
) -> None:
    write("t.csv", table(40))
    first, again = load(BY_SHARD), load(BY_SHARD)  # a command's, and Dagster's definitions'
    passes.clear()
    asked = [
        list(first.requests("shard-0001")),
        list(again.requests(["shard-0001"])),
        list(first.requests("shard-0001")),
    ]
    assert len(passes) == 1
    assert asked[0] == asked[1] == asked[2]
    assert 0 < len(asked[0]) < 40
    again.data_versions(["shard-0001"])
    assert len(passes) == 1


def test_a_part_of_what_was_checked_is_not_checked_again(
    write: Write, load: Load, passes: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checked_partitions, "MOST_PROMPTS", 1)  # none of these is kept
    write("t.csv", table(40))
    prompt_set = load(BY_SHARD)
    everything = {each.request_sha256 for each in prompt_set.requests()}
    passes.clear()
    shards = [list(prompt_set.requests(key)) for key in prompt_set.partition_keys()]
    assert len(passes) == len(shards)
    assert {each.request_sha256 for shard in shards for each in shard} == everything


def test_styles_of_one_name_are_counted_also_in_partitions_that_nobody_asks_for(
    write: Write, load: Load, passes: list[Path]
) -> None:
    write("t.csv", "name,prompt,negative_prompt\n" + "a,x,\n" * 6)
    entry = '{prompt: "{prompt}", table: t.csv, key: name}'
    text = f"prompts: {{p: {entry}}}\npartitions: {{by: shard, count: 4}}\n"
    everything = {each.source.prompt_name for each in load(text).requests()}
    assert everything == {"p-a", *(f"p-a-{number}" for number in range(2, 7))}
    prompt_set = load(text)
    found = [each for key in prompt_set.partition_keys() for each in prompt_set.requests(key)]
    assert sorted(each.source.prompt_name for each in found) == sorted(everything)


def test_warnings_are_told_each_time(write: Write, load: Load, passes: list[Path]) -> None:
    write("t.csv", "sku,name\na,same\nb,same\n")
    prompt_set = load(BY_SHARD.replace("count: 4", "count: 1"))
    list(prompt_set.requests())
    told: list[list[str]] = []
    for _ in range(2):
        told.append([])
        list(prompt_set.requests("shard-0000", lambda one: told[-1].append(one.message)))
    assert told[0] == told[1]
    assert "is the same as p-a" in told[0][0]
    assert passes


def test_a_table_that_changed_is_refused_or_read_anew(
    write: Write, load: Load, passes: list[Path]
) -> None:
    write("t.csv", table(40))
    before = load(BY_SHARD)
    first = list(before.requests("shard-0001"))
    write("t.csv", table(40, "gadget"))
    with pytest.raises(ConfigError, match=r"t\.csv changed since it was loaded"):
        before.requests("shard-0001")
    after = list(load(BY_SHARD).requests("shard-0001"))
    assert [each.source.prompt_name for each in after] == [
        each.source.prompt_name for each in first
    ]
    assert {each.request_sha256 for each in after}.isdisjoint(
        {each.request_sha256 for each in first}
    )
    assert passes


def test_what_is_wrong_is_told_each_time(write: Write, load: Load, passes: list[Path]) -> None:
    write("t.csv", table(1_100) + "S-5,again\n")
    prompt_set = load(BY_SHARD)
    for _ in range(2):
        with pytest.raises(ConfigError, match="is named p-s-5 too"):
            prompt_set.requests("shard-0001")
    assert passes


def test_prompts_of_many_selections_are_not_all_kept(
    write: Write, load: Load, passes: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checked_partitions, "MOST_PROMPTS", 15)
    write("t.csv", table(40))
    prompt_set = load(BY_SHARD)
    for key in prompt_set.partition_keys():
        list(prompt_set.requests(key))
    passes.clear()
    list(prompt_set.requests("shard-0003"))
    assert not passes
    list(prompt_set.requests("shard-0000"))
    assert len(passes) == 1


def test_a_sum_over_requests_reads_a_table_once_and_the_requests_are_the_same(
    write: Write, load: Load, passes: list[Path]
) -> None:
    write("t.csv", table(40))
    prompt_set = load(BY_SHARD)
    passes.clear()
    summed = [draft.request() for draft in prompt_set.drafts()]
    assert len(passes) == 1
    assert summed == list(prompt_set.requests())
    drafts = list(load(BY_SHARD).drafts("shard-0002"))
    requests = list(prompt_set.requests("shard-0002"))
    assert [draft.request() for draft in drafts] == requests
    assert [draft.fingerprint() for draft in drafts] == [each.request_sha256 for each in requests]


def test_a_sum_tells_warnings_and_mistakes_at_the_end(
    write: Write, load: Load, passes: list[Path]
) -> None:
    write("t.csv", "sku,name\na,same\nb,same\n")
    told: list[str] = []
    list(load(BY_SHARD).drafts(None, lambda one: told.append(one.message)))
    assert "is the same as p-a" in told[0]
    write("t.csv", table(1_100) + "S-5,again\nS-1101,\n")
    came: list[Draft] = []
    with pytest.raises(ConfigError) as raised:
        came.extend(load(BY_SHARD).drafts())
    assert len(came) == 1_101
    assert len(raised.value.problems) == 2
    assert passes


def test_rows_of_other_partitions_are_not_built(
    write: Write, load: Load, passes: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("t.csv", table(400))
    prompt_set = load(BY_SHARD.replace("count: 4", "count: 40"))
    built: list[int] = []

    def counted(number: int, line: int, values: Any, is_blank: bool = False) -> Row:
        built.append(number)
        return Row(number, line, values, is_blank)

    monkeypatch.setattr(tables, "Row", counted)
    asked = list(prompt_set.requests("shard-0007"))
    assert 0 < len(asked) == len(built) < 30
    assert passes


def test_prompts_that_are_remembered_are_not_checked_again(
    write: Write, load: Load, passes: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("t.csv", table(40))
    checked: list[str] = []
    check = InputChecker.check

    def counted(checker: InputChecker, entry: Entry, variant: Variant) -> CheckedInput | None:
        checked.append(variant.name)
        return check(checker, entry, variant)

    prompt_set = load(BY_SHARD)
    monkeypatch.setattr(InputChecker, "check", counted)
    first = list(prompt_set.requests("shard-0001"))
    assert checked == [each.source.prompt_name for each in first]
    assert list(load(BY_SHARD).requests("shard-0001")) == first
    assert len(checked) == len(first) + 40  # loading checks the first rows of a large table
    assert passes


def test_a_picture_that_has_changed_since_its_prompt_was_checked_is_read_again(
    write: Write, load: Load, passes: list[Path]
) -> None:
    write("t.csv", table(40))
    prompts = BY_SHARD.replace("key: sku", "key: sku, image: a.png")
    pictures = []
    for size in (8, 9):
        path = write("a.png", b"")
        Image.new("RGB", (size, size)).save(path)
        found = [each.pictures[0].sha256 for each in load(prompts).requests("shard-0001")]
        assert set(found) == {hashlib.sha256(path.read_bytes()).hexdigest()}
        pictures.append(found)
    assert pictures[0] != pictures[1]
    assert passes
