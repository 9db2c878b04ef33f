"""Rows that are skipped by choice are counted and named; without the choice they are errors."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.prompts import build_prompt_set
from flux_pipeline.prompts import load as loading
from tests.prompts.fixtures import Load, ProblemsOf, Write

SKIP = 'prompts: {p: {prompt: "a {name}", num_outputs: "{n}", table: t.csv, bad_rows: skip}}\n'
ROWS = "name,n\ncat,1\ndog,9\nowl,x,y\nelk,2\n,1\nfox,1\n"


def warnings(load: Load, text: str) -> list[str]:
    return [warning.message for warning in load(text).warnings]


def test_bad_rows_are_errors_unless_the_file_says_otherwise(
    write: Write, problems: ProblemsOf
) -> None:
    write("t.csv", ROWS)
    found = problems(SKIP.replace("bad_rows: skip", "bad_rows: error"))
    assert [problem.line for problem in found] == [3, 4, 6]


def test_skipped_rows_are_warned_of_and_counted(write: Write, load: Load) -> None:
    write("t.csv", ROWS)
    prompt_set = load(SKIP)
    prompts = [request.input["prompt"] for request in prompt_set.requests()]
    assert prompts == ["a cat", "a elk", "a fox"]
    assert prompt_set.partition_keys() == ("p-row-000001", "p-row-000004", "p-row-000006")
    assert [(Path(each.path).name, each.line) for each in prompt_set.warnings] == [
        ("t.csv", 0),
        ("t.csv", 3),
        ("t.csv", 4),
        ("t.csv", 6),
    ]
    messages = [warning.message for warning in prompt_set.warnings]
    assert messages[0] == (
        "skipped 3 rows that can't be used (bad_rows: skip): row 2, row 3, row 5"
    )
    assert messages[1] == "skipped: row 2: num_outputs: 9 is not allowed (1 to 4)"
    assert messages[2] == "skipped: row 3 has 3 cells, the header 2"
    assert messages[3].startswith("skipped: row 5: name is blank: fill in")


def test_a_row_put_right_later_moves_no_other(write: Write, load: Load) -> None:
    write("t.csv", 'name,n\ncat,1\n"a"b,1\nfox,1\n')
    before = [r.request_sha256 for r in load(SKIP).requests()]
    write("t.csv", "name,n\ncat,1\nb,1\nfox,1\n")
    after = [r.request_sha256 for r in load(SKIP).requests()]
    assert [after[0], after[2]] == before


def test_a_wrong_input_of_the_file_is_no_bad_row(write: Write, problems: ProblemsOf) -> None:
    write("t.csv", ROWS)
    (problem,) = problems(SKIP.replace('"{n}"', "9"))
    assert problem.key == "prompts.p.num_outputs"


def test_a_table_of_nothing_but_bad_rows_is_refused(write: Write, problems: ProblemsOf) -> None:
    write("t.csv", "name,n\ncat,8\ndog,9\n")
    found = problems(SKIP)
    assert found[0].message == "no row can be used: bad_rows: skip would leave nothing"
    assert found[1].message.startswith("skipped 2 rows")


def test_what_may_swallow_other_rows_is_never_skipped(write: Write, problems: ProblemsOf) -> None:
    write("t.csv", 'name,n\ncat,1\n"dog,1\nowl,1\nelk,1\n')
    (problem,) = problems(SKIP)
    assert (problem.line, "no valid csv from here on" in problem.message) == (3, True)


def test_a_row_that_is_no_utf_8_is_skipped_whole(write: Write, load: Load) -> None:
    write("t.csv", b"name,n\ncat,1\ncaf\xe9,1\nfox,1\n")
    prompt_set = load(SKIP)
    assert [r.input["prompt"] for r in prompt_set.requests()] == ["a cat", "a fox"]
    assert "line 3" in prompt_set.warnings[0].message


@pytest.mark.parametrize("ending", ["jsonl", "json"])
def test_bad_rows_of_json_are_skipped(write: Write, load: Load, ending: str) -> None:
    rows = ['{"name": "cat", "n": 1}', '{"name": NaN}', "7", '{"name": "fox", "n": 1.0}']
    text = "\n".join(rows) if ending == "jsonl" else f"[{','.join(rows)}]"
    write(f"t.{ending}", text)
    prompt_set = load(SKIP.replace("t.csv", f"t.{ending}"))
    assert [r.input["prompt"] for r in prompt_set.requests()] == ["a cat", "a fox"]
    assert "skipped 2 rows" in prompt_set.warnings[0].message


def test_a_blank_cell_names_the_row_and_the_choices(write: Write, problems: ProblemsOf) -> None:
    write("t.csv", "name,n,note\ncat,1,\n ,1,x\n")
    (problem,) = problems(SKIP.replace(", bad_rows: skip", ""))
    assert (Path(problem.path).name, problem.line) == ("t.csv", 3)
    assert problem.message == (
        "row 2: name is blank: fill in, or write blank: skip or blank: empty for this prompt"
    )


def test_rows_with_a_blank_cell_are_skipped_by_choice_and_counted(write: Write, load: Load) -> None:
    write("t.csv", "name,n\ncat,1\n,1\ndog,\nfox,2\n")
    text = SKIP.replace("bad_rows", "blank")
    assert [r.input["prompt"] for r in load(text).requests()] == ["a cat", "a fox"]
    assert warnings(load, text) == ["skipped 2 rows with a blank cell (blank: skip): row 2, row 3"]


def test_a_blank_cell_may_be_filled_in_as_nothing(write: Write, load: Load) -> None:
    write("t.csv", "name,n,s\ncat,1.0,7\n,,\n , ,\ndog,,\n,2,\n")
    text = SKIP.replace("bad_rows: skip", 'seed: "{s}", blank: empty')
    first, second, third = load(text).requests()
    assert (first.seed, first.outputs) == (7, 1)
    assert second.input["prompt"] == "a dog"
    assert "num_outputs" not in second.input
    assert second.seed  # derived, as where none is given
    assert (third.input["prompt"], third.outputs) == ("a ", 2)


def test_blank_rows_at_the_end_are_skipped_without_a_word(write: Write, load: Load) -> None:
    write("t.csv", "name,n\ncat,1\n,\n  ,\t\n,,,,\n\n" + ",\n" * 3_000)
    text = SKIP.replace(", bad_rows: skip", "")
    assert load(text).partition_keys() == ("p-row-000001",)
    assert warnings(load, text) == []


def test_blank_rows_between_keep_their_numbers_and_are_counted(write: Write, load: Load) -> None:
    write("t.csv", "name,n\ncat,1\n,\n,\ndog,1\n,\nfox,1\n,\n")
    text = SKIP.replace(", bad_rows: skip", "")
    assert load(text).partition_keys() == ("p-row-000001", "p-row-000004", "p-row-000006")
    assert warnings(load, text) == [
        "skipped 3 rows of blank cells between others: row 2, row 5 ..."
    ]


def test_choices_about_rows_need_a_table(problems: ProblemsOf) -> None:
    found = problems("prompts: {p: {prompt: a, blank: skip, bad_rows: skip}}\n")
    assert [problem.key for problem in found] == ["prompts.p.bad_rows", "prompts.p.blank"]
    assert all("no table" in problem.message for problem in found)


def test_warnings_of_a_large_table_come_with_its_requests(
    write: Write, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "MAX_TABLE_BYTES", 0)
    write("t.csv", "name,n\n" + "cat,1\n" * 1_100 + "dog,9\n")
    prompt_set = load(SKIP + "partitions: {by: shard, count: 1}\n")
    said: list[str] = []
    requests = prompt_set.requests(None, lambda warning: said.append(str(warning)))
    assert sum(1 for _ in requests) == 1_100
    assert any("skipped 1 row" in message for message in said)


@given(
    rows=st.lists(st.sampled_from(["cat,1", "dog,9", "owl,1,2", ",1", ",", '"x"y,1']), max_size=12),
    ending=st.sampled_from(["csv", "json"]),
)
def test_every_row_is_made_or_counted_or_blank(
    rows: list[str], ending: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("t")
    rows = ["elk,1", *rows, "elk,1"]
    if ending == "csv":
        (folder / "t.csv").write_text("name,n\n" + "".join(f"{row}\n" for row in rows))
    else:
        objects = [dict(zip(["name", "n", "m"], row.split(","), strict=False)) for row in rows]
        (folder / "t.json").write_text(json.dumps(objects))
    prompt = {"prompt": "{name}", "num_outputs": "{n}", "table": f"t.{ending}", "bad_rows": "skip"}
    document = {"model": "lucataco/flux-schnell-lora", "prompts": {"p": prompt}}
    prompt_set = build_prompt_set("x", document, folder=folder)
    made = sum(1 for _ in prompt_set.requests())
    counts = [w.message.split()[1] for w in prompt_set.warnings if w.message.startswith("skipped ")]
    assert made + sum(map(int, counts)) == len(rows)
