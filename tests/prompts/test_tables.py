"""Tables are read as text, unchanged, in every format; rows that can't be used are reported."""

import csv
import datetime as dt
import json
import os
import tracemalloc
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.prompts import tables
from flux_pipeline.prompts.tables import open_table
from tests.prompts.fixtures import Load, ProblemsOf, Write

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
    def fail(line: int, message: str) -> None:
        pytest.fail(f"{line}: {message}")

    table = open_table(path.parent, path.name)
    wanted = list(columns)
    rows = [row for row in table.rows(wanted, fail) if not row.is_blank]
    return [[row.values[name] for name in wanted] for row in rows]


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.parquet"])
def test_text_that_other_readers_interpret_stays_text(tmp_path: Path, name: str) -> None:
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
    assert rows_of(path, ("a", "b")) == [row for row in expected if "".join(row).strip()]


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


def test_jsonl_columns_that_are_not_used_may_hold_anything(write: Write) -> None:
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


def test_parquet_nulls_and_nans_are_blank_cells(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {
        "a": ["x", None, "y", None],
        "f": [1.0, float("nan"), float("nan"), None],
        "note": [None, "later", None, " "],
        "picture": [b"png"] * 4,
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    table = open_table(tmp_path, "t.parquet")
    rows = list(table.rows(["a", "f"], lambda _line, message: pytest.fail(message)))
    assert [row.values["a"] for row in rows] == ["x", "", "y", ""]
    assert [row.values["f"] for row in rows] == ["1.0", "", "", ""]
    assert [row.is_blank for row in rows] == [False, False, False, True]


def test_a_parquet_column_of_lists_is_no_text(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [["x"], ["y"]]}), tmp_path / "t.parquet")
    reported: list[str] = []
    table = open_table(tmp_path, "t.parquet")
    assert not list(table.rows(["a"], lambda _line, message: reported.append(message)))
    assert reported[1] == "row 2: a is nested or binary, not text"


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


TABLES: dict[str, tuple[str, str | bytes, tuple[str, ...]]] = {
    "no header": ("t.csv", "", ("empty", "first line must name the columns")),
    "header is data": ("t.csv", "1,2\n3,4\n", ("unknown placeholder {name}",)),
    "two columns of a name": (
        "t.csv",
        "name,name\n1,2\n",
        ("more than one column called name",),
    ),
    "short row": (
        "t.csv",
        "name,b\n1,2\n3\n4,5\n",
        ("t.csv:3:", "row 2 has 1 cells", "header 2"),
    ),
    "long row": ("t.csv", "name,b\n1,2\n3,4,5\n", ("t.csv:3:", "row 2 has 3 cells")),
    "open quote": ("t.csv", 'name,b\n1,"2\n', ("t.csv:2:", "no valid csv")),
    "no UTF-8": ("t.csv", b"name\ncaf\xe9\n", ("t.csv:2:", "at byte 8", "save as UTF-8")),
    "UTF-16": ("t.csv", "name\na\n".encode("utf-16"), ("UTF-16",)),
    "short row of a tsv": ("t.tsv", "name\tb\n1\t2\n3\n", ("t.tsv:3:", "row 2 has 1 cells")),
    "NaN": ("t.jsonl", '{"name": "a"}\n{"name": NaN}\n', ("t.jsonl:2:", "NaN is no JSON")),
    "Infinity": ("t.jsonl", '{"name": "a"}\n{"n": -Infinity}\n', ("-Infinity is no JSON",)),
    "duplicate keys": (
        "t.jsonl",
        '{"name": "a"}\n{"name": "b", "name": "c"}\n',
        ("t.jsonl:2:", "name", "stands twice"),
    ),
    "broken line": ("t.jsonl", '{"name": "a"}\n{"name": \n', ("t.jsonl:2:", "row 2 is no JSON")),
    "no object": ("t.jsonl", '{"name": "a"}\n["b"]\n', ("row 2 is a list", "JSON object")),
    "missing column": ("t.jsonl", '{"name": "a"}\n{"nam": "b"}\n', ("row 2 has no name",)),
    "null": ("t.jsonl", '{"name": "a"}\n{"name": null, "b": 1}\n', ("row 2: name is blank",)),
    "deep": ("t.jsonl", '{"name": "a"}\n' + "[" * 100_000, ("row 2", "nested too deeply")),
    "no parquet": ("t.parquet", "name\na\n", ("no valid Parquet file",)),
    "unknown format": ("t.rtf", "x", ("no table by its ending", ".csv")),
    "a spreadsheet": ("t.ods", "x", ("is a spreadsheet: save it as CSV UTF-8",)),
    "no spreadsheet": ("t.xlsx", "x", ("is no valid .xlsx file",)),
}

KEYED_TABLES: dict[str, tuple[str, str | bytes, tuple[str, ...]]] = {
    "blank key": ("t.csv", "name,k\na,x\nb,\n", ("row 2", "key column k is blank")),
    "same key twice": ("t.csv", "name,k\na,x\nb,y\nc,x\n", ("t.csv:4:", "(row 1)", "named p-x")),
    "keys too alike": ("t.csv", "name,k\na,A 1\nb,a-1\n", ("t.csv:3:", "(row 1)", "named p-a-1")),
    "no key column": ("t.csv", "name\na\n", ("has no column k", "it has name")),
}


@pytest.mark.parametrize(("name", "table", "words"), TABLES.values(), ids=TABLES.keys())
def test_tables_are_refused_with_the_row(
    write: Write, problems: ProblemsOf, name: str, table: str | bytes, words: tuple[str, ...]
) -> None:
    write(name, table)
    found = problems(f'prompts: {{p: {{prompt: "{{name}}", table: {name}}}}}\n')
    text = "\n".join(map(str, found))
    assert all(word in text for word in words), text


@pytest.mark.parametrize(("name", "table", "words"), KEYED_TABLES.values(), ids=KEYED_TABLES.keys())
def test_keys_are_refused_with_the_row(
    write: Write, problems: ProblemsOf, name: str, table: str | bytes, words: tuple[str, ...]
) -> None:
    write(name, table)
    found = problems(f'prompts: {{p: {{prompt: "{{name}}", table: {name}, key: k}}}}\n')
    text = "\n".join(map(str, found))
    assert all(word in text for word in words), text


def test_missing_table_is_named_with_the_line_that_asks_for_it(problems: ProblemsOf) -> None:
    (problem,) = problems('prompts:\n  p:\n    prompt: "{name}"\n    table: gone.csv\n')
    assert problem.line == 5
    assert problem.key == "prompts.p.table"
    assert "gone.csv: no such file" in problem.message


@pytest.mark.parametrize("table", ["../t.csv", "/etc/t.csv", "a/../../t.csv"])
def test_a_table_outside_of_the_folder_is_refused(problems: ProblemsOf, table: str) -> None:
    (problem,) = problems(f'prompts: {{p: {{prompt: "{{name}}", table: {table}}}}}\n')
    assert "leaves the folder" in problem.message


def test_every_broken_row_is_reported(write: Write, problems: ProblemsOf) -> None:
    write("t.jsonl", '{"name": "a"}\nx\n{"name": "b"}\n{"name": 1, "name": 2}\n\n[]\n{"n": 1}\n')
    found = problems('prompts: {p: {prompt: "{name}", table: t.jsonl}}\n')
    assert [problem.line for problem in found] == [2, 4, 6, 7]


def test_a_table_that_is_wrong_in_every_row_does_not_fill_the_screen(
    write: Write, problems: ProblemsOf
) -> None:
    write("t.csv", "name,b\n" + "1\n" * 5_000)
    found = problems('prompts: {p: {prompt: "{name}", table: t.csv}}\n')
    assert len(found) == 101
    assert "5,000 problems; 100 are listed" in found[0].message


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_pipe_is_no_table_and_is_not_waited_for(
    write: Write, problems: ProblemsOf, ending: str
) -> None:
    os.mkfifo(write("x", "").parent / f"t.{ending}")
    (problem,) = problems(f'prompts: {{a: {{prompt: "{{x}}", table: t.{ending}}}}}\n')
    assert f"t.{ending}: is a pipe, a socket or a device, not a table" in problem.message


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_a_folder_is_no_table(write: Write, problems: ProblemsOf, name: str) -> None:
    write(f"{name}/x", "")
    (problem,) = problems(f'prompts: {{a: {{prompt: "{{x}}", table: {name}}}}}\n')
    assert f"{name}: is a folder, not a table" in problem.message


def test_a_jsonl_table_without_an_object_has_no_columns(write: Write, problems: ProblemsOf) -> None:
    write("t.jsonl", "\n[]\n")
    (problem,) = problems('prompts: {a: {prompt: "{x}", table: t.jsonl}}\n')
    assert "holds no JSON object" in problem.message


def test_an_unreadable_table_says_why(write: Write, problems: ProblemsOf) -> None:
    path = write("t.csv", "")
    path.unlink()
    path.symlink_to("t.csv")
    (problem,) = problems('prompts: {a: {prompt: "{x}", table: t.csv}}\n')
    assert "t.csv: " in problem.message


def test_line_ends_within_a_cell_become_line_feeds(tmp_path: Path, write: Write) -> None:
    write("t.csv", 'a,b\r\n"x\r\ny\rz",1\r\n')
    write("t.jsonl", '{"a": "x\\r\\ny\\rz"}\r\n')
    write("t.json", '[\r\n{"a": "x\\r\\ny\\rz"}\r\n]')
    pq.write_table(pa.table({"a": ["x\r\ny\rz"]}), tmp_path / "t.parquet")
    for ending in ("csv", "jsonl", "json", "parquet"):
        assert rows_of(tmp_path / f"t.{ending}") == [["x\ny\nz"]]


@pytest.mark.parametrize("head", ["a;b", "sep=;\na;b", "a\tb", "sep=|\na|b"])
def test_a_csv_says_its_separator_by_its_first_line(write: Write, head: str) -> None:
    sign = head[-2]
    path = write("t.csv", f'{head}\r\n"1,5{sign}"{sign}2\r\n'.replace("\r", ""))
    assert rows_of(path, ("a", "b")) == [[f"1,5{sign}", "2"]]


def test_lines_are_counted_behind_a_line_that_names_the_separator(write: Write) -> None:
    path = write("t.csv", "sep=;\na;b\n1;2\n3\n")
    reported: list[tuple[int, str]] = []
    table = open_table(path.parent, path.name)
    rows = list(table.rows(["a"], lambda line, message: reported.append((line, message))))
    assert [(row.number, row.line) for row in rows] == [(1, 3)]
    assert reported == [(4, "row 2 has 1 cells, the header 2")]


def test_a_txt_holds_a_prompt_a_line(write: Write, load: Load) -> None:
    write("t.txt", b"\xef\xbb\xbfa red fox, {x}\r\n\r\n \r\n  an owl\r\nlast")
    requests = load('prompts: {p: {prompt: "{prompt}", table: t.txt}}\n').requests()
    assert [(r.source.prompt_name, r.input["prompt"]) for r in requests] == [
        ("p-row-000001", "a red fox, {x}"),
        ("p-row-000002", "  an owl"),
        ("p-row-000003", "last"),
    ]


def test_a_json_array_holds_objects_or_texts(write: Write, load: Load) -> None:
    write("t.json", '[{"sku": "A", "text": "a fox"}, {"sku": "B", "text": "an owl"}]')
    keyed = load('prompts: {p: {prompt: "{text}", table: t.json, key: sku}}\n')
    assert keyed.partition_keys() == ("p-a", "p-b")
    write("t.json", '["a fox", "an owl"]')
    texts = load('prompts: {p: {prompt: "{prompt}", table: t.json}}\n').requests()
    assert [request.input["prompt"] for request in texts] == ["a fox", "an owl"]


def test_bytes_of_another_encoding_far_down_in_a_json_array_are_no_row(
    write: Write, problems: ProblemsOf
) -> None:
    rows = ",".join(f'"prompt number {n}"' for n in range(5_000))
    write("t.json", f"[{rows},".encode() + b'"caf\xe9"]')
    found = problems('prompts: {p: {prompt: "{prompt}", table: t.json, bad_rows: skip}}\n')
    assert any("not UTF-8: save as UTF-8" in problem.message for problem in found)


def test_old_line_ends_are_one_message(write: Write, problems: ProblemsOf) -> None:
    write("t.csv", "name\ra\rb\r")
    (problem,) = problems('prompts: {p: {prompt: "{name}", table: t.csv}}\n')
    assert "line ends of an old Mac" in problem.message


STYLES = (
    "\ufeffname,prompt,negative_prompt\r\n"
    "None,,\r\n"
    'film,"film still of {prompt}, 35mm","blurry\r\nlow quality"\r\n'
    'ink,"ink drawing, {prompt}",\r\n'
    "film,grainy photo,\r\n"
    "film,faded photo,\r\n"
    ",,\r\n"
)


def test_styles_of_a_web_ui_stand_around_a_subject(write: Write, load: Load) -> None:
    write("styles.csv", STYLES)
    prompt_set = load(
        'prompts: {s: {prompt: "{before}a fox{after}", table: styles.csv, key: name}}\n'
    )
    assert [(r.source.prompt_name, r.input["prompt"]) for r in prompt_set.requests()] == [
        ("s-film", "film still of a fox, 35mm"),
        ("s-ink", "ink drawing, a fox"),
        ("s-film-2", "a fox, grainy photo"),
        ("s-film-3", "a fox, faded photo"),
    ]
    (warning,) = prompt_set.warnings
    assert warning.message == "skipped 1 row of blank cells between others: row 1"


def test_styles_are_prompts_of_their_own_where_they_hold_no_subject(
    write: Write, load: Load, problems: ProblemsOf
) -> None:
    write("styles.csv", STYLES)
    text = 'prompts: {s: {prompt: "{prompt}", table: styles.csv, key: name}}\n'
    found = problems(text)
    assert [problem.line for problem in found] == [3, 5]
    assert "write {before}your subject{after} instead" in found[0].message
    requests = load(text.replace("key: name", "key: name, bad_rows: skip")).requests()
    assert [request.input["prompt"] for request in requests] == ["grainy photo", "faded photo"]


def test_twin_names_never_meet_a_name_that_is_there(write: Write, load: Load) -> None:
    write("styles.csv", "name,prompt,negative_prompt\na,x,\na-2,y,\na,z,\na,u,\na-2,v,\n")
    prompt_set = load('prompts: {s: {prompt: "{prompt}", table: styles.csv, key: name}}\n')
    assert prompt_set.partition_keys() == ("s-a", "s-a-2", "s-a-3", "s-a-4", "s-a-2-2")


@given(
    rows=st.lists(
        st.lists(st.text(alphabet="ab\"',;\r\n\t 城", max_size=6), min_size=2, max_size=2),
        max_size=6,
    )
)
def test_what_a_csv_writer_wrote_comes_back_with_line_feeds(
    rows: list[list[str]], tmp_path_factory: Any
) -> None:
    path = tmp_path_factory.mktemp("t") / "t.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["a", "b"], *rows])
    expected = [
        [cell.replace("\r\n", "\n").replace("\r", "\n") for cell in row]
        for row in rows
        if "".join(row).strip()
    ]
    assert rows_of(path, ("a", "b")) == expected


def test_a_million_blank_rows_at_the_end_are_not_held(write: Write) -> None:
    path = write("t.csv", "a,b\nx,1\n" + ",\n" * 100_000)
    table = open_table(path.parent, path.name)
    tracemalloc.start()
    try:
        rows = table.rows(["a"], lambda _line, message: pytest.fail(message))
        assert sum(1 for row in rows if not row.is_blank) == 1
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
def test_bad_lines_anywhere_in_a_long_table_are_told_with_their_places(
    tmp_path: Path, name: str
) -> None:
    separator = b"," if name == "t.csv" else b"\t"
    lines = [separator.join((b"row %d" % n, "é 城\u2028".encode())) for n in range(3_000)]
    lines[1_500] = separator.join((b"row 1500", b"\xff"))
    lines[2_000] = separator.join((b"row 2000", b"x" * 2**21))
    lines[2_500] = separator.join((b"row 2500", b"\xff"))
    body = b"\xef\xbb\xbfa%bb\n" % separator + b"\r\n".join(lines)
    path = tmp_path / name
    path.write_bytes(body)
    told: list[tuple[int, str]] = []
    table = open_table(tmp_path, name)
    rows = list(table.rows(["a", "b"], lambda line, message: told.append((line, message))))
    assert [line for line, _ in told] == [1_502, 2_002, 2_502]
    assert f"at byte {body.index(bytes([255]))}:" in told[0][1]
    assert "more than 1,048,576 bytes" in told[1][1]
    assert f"at byte {body.rindex(bytes([255]))}:" in told[2][1]
    bad = {1_501, 2_001, 2_501}
    assert [row.number for row in rows] == [n for n in range(1, 3_001) if n not in bad]
    assert rows[-1].line == 3_001
    assert rows[-1].values == {"a": "row 2999", "b": "é 城\u2028"}


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.json", "t.txt", "t.parquet"])
def test_each_row_that_is_not_blank_is_shown_once_and_left_out_where_it_is_not_asked_for(
    tmp_path: Path, name: str
) -> None:
    path, texts = tmp_path / name, [f"text {n}" for n in range(6)]
    if name == "t.parquet":
        pq.write_table(pa.table({"prompt": [*texts, None]}), path)
    elif name in {"t.jsonl", "t.json"}:
        values = [json.dumps({"prompt": text}) for text in [*texts, ""]]
        path.write_text("\n".join(values) if name == "t.jsonl" else f"[{','.join(values)}]")
    else:
        head = [] if name == "t.txt" else ["prompt"]
        path.write_text("\n".join([*head, *texts, " "]))
    shown: list[tuple[int, str]] = []

    def are_asked(numbers: Sequence[int], texts: Sequence[str]) -> list[bool]:
        shown.extend(zip(numbers, texts, strict=True))
        return [number == 3 for number in numbers]

    table = open_table(tmp_path, name)
    rows = list(table.rows(["prompt"], pytest.fail, are_asked=are_asked))
    assert shown == list(enumerate(texts, start=1))
    assert [row.values["prompt"] for row in rows if not row.is_blank] == ["text 2"]


def test_rows_of_a_large_table_are_shown_together_and_come_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_ROWS_AT_ONCE", 4)
    cells = ["a,1", "b,1", ",", "c,1", "d,1", "e,1", "f,1", "too,many,cells", "g,1", ",", "h,1"]
    (tmp_path / "t.csv").write_text("\n".join(["key,n", *cells, ""]))
    shown: list[str] = []
    bad: list[str] = []

    def are_asked(numbers: Sequence[int], texts: Sequence[str]) -> list[bool]:
        shown.append("".join(texts))
        return [number % 2 == 1 for number in numbers]

    found = open_table(tmp_path, "t.csv").rows(
        ["key"], lambda _line, message: bad.append(message), are_asked=are_asked
    )
    assert [(row.number, row.values["key"]) for row in found] == [
        (number, cells[number - 1].partition(",")[0]) for number in (1, 3, 5, 7, 9, 10, 11)
    ]
    assert shown == ["ab", "c", "defg", "h"]
    assert bad == ["row 8 has 3 cells, the header 2"]
