"""Tables too large to be held in memory or to be read at every start."""

import tracemalloc
from pathlib import Path

import pytest

from flux_pipeline.errors import ConfigError
from flux_pipeline.prompts import PromptSet
from flux_pipeline.prompts import load as loading
from tests.prompts.fixtures import Load, ProblemsOf, Write

TABLE = """\
prompts: {p: {prompt: "{name} in {light}", table: t.csv, key: sku}}
partitions: {by: shard, count: 10}
"""


def table(rows: int, changed: dict[int, str] | None = None) -> str:
    lines = (f"S-{n},product number {n},morning light" for n in range(1, rows + 1))
    changed = changed or {}
    return "sku,name,light\n" + "".join(
        f"{changed.get(number, line)}\n" for number, line in enumerate(lines, start=1)
    )


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every table counts as too large to be read whole on loading."""
    monkeypatch.setattr(loading, "MAX_TABLE_BYTES", 0)


def peak_bytes(prompt_set: PromptSet) -> int:
    tracemalloc.start()
    try:
        for _ in prompt_set.requests():
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.usefixtures("unread")
def test_memory_grows_by_less_than_100_bytes_a_row(write: Write, load: Load) -> None:
    write("t.csv", table(300))
    peak_bytes(load(TABLE))  # caches fill up
    small = peak_bytes(load(TABLE))
    write("t.csv", table(1_500))
    # The lower of two: what else the process does in between is no memory of the rows.
    assert min(peak_bytes(load(TABLE)) for _ in range(2)) - small < 1_200 * 100


def test_a_table_of_more_than_2_MiB_is_streamed(write: Write, load: Load) -> None:
    # Padded, because a table is streamed from 2 MiB on.
    padded = table(8_000, {n: f"S-{n},product number {n},{300 * '.'}" for n in range(1, 8_001)})
    write("t.csv", padded)
    prompt_set = load(TABLE)
    assert not prompt_set.is_checked
    assert sum(1 for _ in prompt_set.requests("shard-0003")) == pytest.approx(800, rel=0.15)


@pytest.mark.usefixtures("unread")
def test_what_loading_left_unread_is_checked_before_the_first_request(
    write: Write, load: Load
) -> None:
    write("t.csv", table(1_200, {1_050: "S-1050,,", 1_100: "S-1100,x", 1_150: "S-7,a,b"}))
    prompt_set = load(TABLE.replace("{name} in {light}", "{name}"))
    with pytest.raises(ConfigError) as raised:
        prompt_set.requests()
    assert [problem.line for problem in raised.value.problems] == [1_051, 1_101, 1_151]
    message = str(raised.value)
    assert "prompts.p: row 1050: name is blank" in message
    assert "row 1100 has 2 cells, the header 3" in message
    assert "an earlier prompt (row 7) is named p-s-7 too" in message
    with pytest.raises(ConfigError):
        prompt_set.check()


@pytest.mark.usefixtures("unread")
def test_a_wrong_prompt_stops_its_own_shard_alone(write: Write, load: Load) -> None:
    write("t.csv", table(1_200, {1_100: "S-1100,,"}))
    prompt_set = load(TABLE.replace("{name} in {light}", "{name}"))
    failed = []
    for key in prompt_set.partition_keys():
        try:
            prompt_set.requests(key)
        except ConfigError:
            failed.append(key)
    assert len(failed) == 1


@pytest.mark.usefixtures("unread")
def test_the_first_thousand_rows_are_looked_at_on_loading(
    write: Write, problems: ProblemsOf
) -> None:
    write("t.csv", table(1_200, {900: "S-900,x"}))
    (problem,) = problems(TABLE)
    assert problem.line == 901


@pytest.mark.usefixtures("unread")
def test_a_partition_each_is_refused_without_reading_on(write: Write, problems: ProblemsOf) -> None:
    write("t.csv", table(1_200))
    (problem,) = problems(TABLE.replace("{by: shard, count: 10}", "{by: prompt}"))
    assert "more than 1,000 prompts" in problem.message


@pytest.mark.usefixtures("unread")
def test_warnings_of_the_rest_come_from_a_check(write: Write, load: Load) -> None:
    write("t.csv", table(1_200, {1_100: "S-1100,product number 7,morning light"}))
    prompt_set = load(TABLE)
    assert prompt_set.warnings == ()
    (warning,) = prompt_set.check()
    assert (Path(warning.path).name, warning.line) == ("t.csv", 1_101)
    assert "is the same as p-s-7" in warning.message
