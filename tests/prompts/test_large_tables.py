"""Tables too large to hold or to read at every start."""

import tracemalloc
from pathlib import Path

import pytest

from flux_pipeline.errors import ConfigError
from flux_pipeline.prompts import PromptSet
from flux_pipeline.prompts import load as loading
from tests.prompts.sets import Load, ProblemsOf, Write

TABLE = """\
prompts: {p: {prompt: "{name} in {light}", table: t.csv, key: sku}}
partitions: {by: shard, count: 10}
"""


def table(rows: int, bad: dict[int, str] | None = None) -> str:
    lines = (f"S-{n},product number {n},morning light" for n in range(1, rows + 1))
    wrong = bad or {}
    return "sku,name,light\n" + "".join(
        f"{wrong.get(number, line)}\n" for number, line in enumerate(lines, start=1)
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
    write("t.csv", table(500))
    peak_bytes(load(TABLE))  # caches fill up
    small = peak_bytes(load(TABLE))
    write("t.csv", table(3_500))
    assert peak_bytes(load(TABLE)) - small < 3_000 * 100


def test_fifty_thousand_rows_are_streamed(write: Write, load: Load) -> None:
    write("t.csv", table(50_000))
    prompt_set = load(TABLE)
    assert not prompt_set.is_checked
    assert sum(1 for _ in prompt_set.requests("shard-0003")) == pytest.approx(5_000, rel=0.1)


@pytest.mark.usefixtures("unread")
def test_what_loading_left_unread_is_checked_before_the_first_request(
    write: Write, load: Load
) -> None:
    write("t.csv", table(3_000, {2_000: "S-2000,,", 2_500: "S-2500,x", 2_900: "S-7,a,b"}))
    prompt_set = load(TABLE.replace("{name} in {light}", "{name}"))
    with pytest.raises(ConfigError) as raised:
        prompt_set.requests()
    assert [problem.line for problem in raised.value.problems] == [2_001, 2_501, 2_901]
    said = str(raised.value)
    assert "prompts.p.prompt: is empty (row 2000)" in said
    assert "row 2500 has 2 cells, the header 3" in said
    assert "an earlier prompt (row 7) is named p-s-7 too" in said
    with pytest.raises(ConfigError):
        prompt_set.check()


@pytest.mark.usefixtures("unread")
def test_a_wrong_prompt_stops_its_own_shard_alone(write: Write, load: Load) -> None:
    write("t.csv", table(3_000, {2_000: "S-2000,,"}))
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
    write("t.csv", table(3_000, {900: "S-900,x"}))
    (problem,) = problems(TABLE)
    assert problem.line == 901


@pytest.mark.usefixtures("unread")
def test_a_partition_each_is_refused_without_reading_on(write: Write, problems: ProblemsOf) -> None:
    write("t.csv", table(3_000))
    (problem,) = problems(TABLE.replace("{by: shard, count: 10}", "{by: prompt}"))
    assert "more than 1,000 prompts" in problem.message


@pytest.mark.usefixtures("unread")
def test_warnings_of_the_rest_come_from_a_check(write: Write, load: Load) -> None:
    write("t.csv", table(3_000, {2_000: "S-2000,product number 7,morning light"}))
    prompt_set = load(TABLE)
    assert prompt_set.warnings == ()
    (warning,) = prompt_set.check()
    assert (Path(warning.path).name, warning.line) == ("t.csv", 2_001)
    assert "is the same as p-s-7" in warning.message
