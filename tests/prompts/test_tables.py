"""Tables come out to the letter, in every format, and as text."""

import datetime as dt
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.prompts.tables import open_table
from tests.prompts.sets import Load, Write

TRICKY = [
    "NA",
    "null",
    "None",
    "",
    "nan",
    "010",
    "1.10",
    "1e5",
    "true",
    " padded ",
    "ünï 城 🏰",
    "{a} {{b}}",
]


def rows_of(path: Path, columns: Iterable[str] = ("a",)) -> list[list[str]]:
    def report(line: int, message: str) -> None:
        pytest.fail(f"{line}: {message}")

    table = open_table(path.parent, path.name)
    wanted = list(columns)
    return [[row.values[name] for name in wanted] for row in table.rows(wanted, report)]


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.parquet"])
def test_text_that_readers_like_to_interpret_stays_text(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "t.parquet":
        pq.write_table(pa.table({"a": TRICKY, "b": TRICKY[::-1]}), path)
    elif name == "t.jsonl":
        path.write_text("".join(json.dumps({"a": a, "b": "x"}) + "\n" for a in TRICKY))
    else:
        separator = "," if name == "t.csv" else "\t"
        path.write_text("".join(f"{a}{separator}x\n" for a in ["a", *TRICKY]))
    assert rows_of(path) == [[text] for text in TRICKY]


def test_quotes_in_a_tsv_are_letters(write: Write) -> None:
    texts = ['a "big" cat', '"', 'a "', '" a', "it's", '""', "a,b;c|d", "back\\slash", "  spaces  "]
    path = write("t.tsv", "a\tb\n" + "".join(f"{text}\t1\n" for text in texts))
    assert rows_of(path) == [[text] for text in texts]


@given(
    rows=st.lists(st.lists(st.text(alphabet="a\"'{}, é城\\", max_size=8), min_size=2, max_size=2))
)
def test_a_tsv_is_split_at_tabs_and_nowhere_else(
    rows: list[list[str]], tmp_path_factory: Any
) -> None:
    path = tmp_path_factory.mktemp("t") / "t.tsv"
    path.write_text("a\tb\n" + "".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    expected = [line.split("\t") for line in path.read_text(encoding="utf-8").split("\n")[1:-1]]
    assert rows_of(path, ("a", "b")) == expected


def test_csv_with_quotes_line_feeds_and_commas(write: Write) -> None:
    path = write("t.csv", 'a,b\r\n"x, ""y""\nz",1\r\n\r\nplain,2\r\n')
    assert rows_of(path) == [['x, "y"\nz'], ["plain"]]


def test_lines_of_rows_count_line_feeds_within_cells(write: Write) -> None:
    path = write("t.csv", 'a\n"1\n2\n3"\n4\n')
    table = open_table(path.parent, path.name)
    rows = list(table.rows(["a"], lambda _line, _message: None))
    assert [(row.number, row.line) for row in rows] == [(1, 2), (2, 5)]


def test_windows_line_ends_and_a_byte_order_mark(write: Write) -> None:
    for name, text in {"t.csv": "a,b\r\n1,2\r\n", "t.tsv": "a\tb\r\n1\t2\r\n"}.items():
        assert rows_of(write(name, b"\xef\xbb\xbf" + text.encode()), ("a", "b")) == [["1", "2"]]


def test_the_last_line_needs_no_end(write: Write) -> None:
    assert rows_of(write("t.tsv", "a\n1\n2")) == [["1"], ["2"]]


def test_jsonl_numbers_keep_their_form(write: Write) -> None:
    path = write("t.jsonl", '{"a": 1.10, "b": true}\n{"a": 1e400, "b": false}\n')
    assert rows_of(path, ("a", "b")) == [["1.10", "true"], ["1e400", "false"]]


def test_jsonl_columns_that_nobody_uses_may_hold_anything(write: Write) -> None:
    assert rows_of(write("t.jsonl", '{"a": "x", "b": null}\n{"a": "y", "c": [1]}\n')) == [
        ["x"],
        ["y"],
    ]


def test_parquet_types_become_text(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {
        "i": [7],
        "f": [0.5],
        "b": [True],
        "d": [dt.date(2026, 11, 1)],
        "s": ["x"],
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert rows_of(tmp_path / "t.parquet", columns) == [["7", "0.5", "true", "2026-11-01", "x"]]


def test_parquet_nulls_are_reported_with_their_rows(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": ["x", None, "y", None]}), tmp_path / "t.parquet")
    reported: list[str] = []
    table = open_table(tmp_path, "t.parquet")
    rows = list(table.rows(["a"], lambda _line, message: reported.append(message)))
    assert [row.number for row in rows] == [1, 3]
    assert [message.split(":")[0] for message in reported] == ["row 2", "row 4"]


def test_a_cut_parquet_file_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": [str(n) for n in range(50_000)]}), path)
    data = bytearray(path.read_bytes())
    data[1000:3000] = bytes(2000)
    path.write_bytes(data)
    reported: list[str] = []
    table = open_table(tmp_path, "t.parquet")
    list(table.rows(["a"], lambda _line, message: reported.append(message)))
    assert "no valid Parquet file from row" in reported[0]


def test_a_line_without_end_is_not_held(write: Write) -> None:
    path = write("t.csv", "a\n" + "x" * 3_000_000 + "\ny\n")
    reported: list[tuple[int, str]] = []
    table = open_table(path.parent, path.name)
    rows = list(table.rows(["a"], lambda line, message: reported.append((line, message))))
    assert [row.values["a"] for row in rows] == ["y"]
    assert reported[0][0] == 2
    assert "more than 1,048,576 bytes" in reported[0][1]


def test_prompts_of_a_table_pass_untouched_whatever_they_hold(write: Write, load: Load) -> None:
    texts = ["{a} {{b}} \"c\" 'd'", "}", "{", "{Prompt}", "{Prompt.__class__}", "%s $x {0}", "\\n"]
    write("t.tsv", "Prompt\tCategory\n" + "".join(f"{text}\tx\n" for text in texts))
    prompt_set = load('prompts: {p: {prompt: "{Prompt}", table: t.tsv}}\n')
    assert [request.input["prompt"] for request in prompt_set.requests()] == texts


def test_rows_without_a_key_are_numbered(write: Write, load: Load) -> None:
    write("t.csv", "name\na\nb\n")
    prompt_set = load('prompts: {p: {prompt: "{name}", table: t.csv}}\n')
    assert prompt_set.partition_keys() == ("p-row-000001", "p-row-000002")


def test_a_key_names_the_row(write: Write, load: Load) -> None:
    write("sub/t.csv", "sku,name\nAB-1,a\n红,b\n")
    keys = load('prompts: {p: {prompt: "{name}", table: sub/t.csv, key: sku}}\n').partition_keys()
    assert keys[0] == "p-ab-1"
    assert keys[1].startswith("p-x-")


def test_a_table_with_a_matrix_gives_the_product(write: Write, load: Load) -> None:
    write("t.csv", "sku,name\na,cat\nb,dog\n")
    prompt_set = load(
        'prompts: {p: {prompt: "{name} in {light}", table: t.csv, key: sku,\n'
        "               matrix: {light: [sun, rain]}}}\n"
    )
    assert prompt_set.partition_keys() == ("p-a-sun", "p-a-rain", "p-b-sun", "p-b-rain")


def test_columns_may_give_other_inputs_than_the_prompt(write: Write, load: Load) -> None:
    write("t.csv", "name,ratio,n\ncat,16:9,2\ndog,1:1,1\n")
    prompt_set = load(
        'prompts: {p: {prompt: "{name}", aspect_ratio: "{ratio}", num_outputs: "{n}",\n'
        "               table: t.csv}}\n"
    )
    assert [(r.width, r.outputs) for r in prompt_set.requests()] == [(1344, 2), (1024, 1)]


def test_a_bad_value_in_a_column_names_row_and_field(
    write: Write, load: Load, problems: Any
) -> None:
    write("t.csv", "name,n\ncat,2\ndog,9\nowl,x\n")
    found = problems('prompts: {p: {prompt: "{name}", num_outputs: "{n}", table: t.csv}}\n')
    assert [(problem.line, problem.key) for problem in found] == [
        (3, "prompts.p.num_outputs"),
        (4, "prompts.p.num_outputs"),
    ]
    assert found[0].message == "9 is not allowed (1 to 4) (row 2)"


def test_a_table_without_rows_gives_no_prompts(write: Write, load: Load) -> None:
    write("t.csv", "name\n")
    assert list(load('prompts: {p: {prompt: "{name}", table: t.csv}}\n').requests()) == []
