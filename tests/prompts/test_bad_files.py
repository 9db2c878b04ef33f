"""Section A of the bad inputs: configuration files that can't be what was meant."""

import os
import sys
from pathlib import Path

import pytest

from flux_pipeline.errors import ConfigError, Problem
from flux_pipeline.prompts import load_prompt_set, load_prompt_sets
from tests.prompts.sets import HEAD, Load, ProblemsOf, Write

# The file behind the line that names the model (line 1), the line blamed, words of the message.
REFUSED: dict[str, tuple[str | bytes, int, tuple[str, ...]]] = {
    "4 empty": (b"", 0, ("no prompts",)),
    "4 only comments": (b"# nothing\n\n", 0, ("no prompts",)),
    "6 UTF-16 with a mark": ("prompts: {}".encode("utf-16"), 0, ("UTF-16", "save as UTF-8")),
    "6 UTF-16 without a mark": ("prompts: {}".encode("utf-16-le"), 0, ("save as UTF-8",)),
    "7 invalid UTF-8": (b"prompts:\n  a: caf\xe9\n", 2, ("at byte 17", "save as UTF-8")),
    "7 invalid UTF-8 behind a mark": (b"\xef\xbb\xbfa: \xe9\n", 1, ("at byte 6",)),
    "8 NUL": (b"prompts:\n  a: b\n  c: d\0\n", 3, ("NUL",)),
    "9 tab indent": ("prompts:\n\ta: b\n", 3, ("tab", "only spaces")),
    "10 too large": (b"#" * (2**20 + 1), 0, ("1,048,576 bytes", "1 MiB")),
    "11 deep": ("x: " + "[" * 5000 + "]" * 5000, 2, ("nested more than 20 levels",)),
    "12 alias bomb": ("a: &a [x, x]\nb: &b [*a, *a]\nprompts: {c: *b}\n", 2, ("aliases",)),
    "13 recursive alias": ("prompts: &p {a: *p}\n", 2, ("aliases", "not supported")),
    "14 python tag": ("prompts: !!python/object:os.system {}\n", 2, ("tag", "refused")),
    "14 any tag": ("prompts: {a: !!str b}\n", 2, ("tag",)),
    "15 duplicate key": ("prompts:\n  a: b\n  c: d\n  a: e\n", 5, ("duplicate key", "line 3")),
    "16 two documents": ("prompts: {a: b}\n---\nprompts: {c: d}\n", 3, ("second document",)),
    "17 a list": (b"- a\n- b\n", 1, ("a list", "mapping")),
    "17 a scalar": (b"just text\n", 1, ("a single value", "mapping")),
    "18 unknown key": (
        "prompts: {a: b}\nscheduel: x\n",
        3,
        ("unknown key", "did you mean schedule"),
    ),
    "18 unknown input": (
        "prompts:\n  a:\n    prompt: b\n    num_output: 2\n",
        5,
        ("unknown key", "did you mean num_outputs"),
    ),
    "24 nan": (
        "prompts: {a: {prompt: b, lora_scale: .nan}}\n",
        2,
        ('".nan" is not allowed', "0 to 1"),
    ),
    "24 inf": ("prompts: {a: {prompt: b, lora_scale: .inf}}\n", 2, ('".inf" is not allowed',)),
    "24 inf in disguise": ("prompts: {a: {prompt: b, lora_scale: 1e999}}\n", 2, ("not allowed",)),
    "25 5,000 digits": (
        f"prompts: {{a: {{prompt: b, seed: {'9' * 5000}}}}}\n",
        2,
        ("not allowed",),
    ),
    "26 missing prompt": ("prompts:\n  a:\n    takes: 2\n", 3, ("is missing",)),
    "26 missing prompts": ("description: x\n", 0, ("prompts: is missing",)),
    "26 empty short form": ("prompts:\n  a:\n", 3, ("is empty",)),
    "27 no prompts": ("prompts: {}\n", 2, ("is empty",)),
    "27 prompts is a list": ("prompts: [a, b]\n", 2, ("a list", "mapping")),
    "31 unknown variable": (
        'prompts:\n  a:\n    prompt: "an {animal} at {hour}"\n    matrix: {hour: [dawn]}\n',
        4,
        ("unknown placeholder {animal}", "allowed: hour"),
    ),
    "31 no variables at all": ('prompts: {a: "an {animal}"}\n', 2, ("{animal}", "a matrix")),
    "32 matrix explosion": (
        'prompts:\n  a:\n    prompt: "{a}{b}{c}{d}{e}{f}{g}{h}{i}"\n    matrix:\n'
        + "".join(f"      {name}: [{', '.join(map(str, range(10)))}]\n" for name in "abcdefghi"),
        5,
        ("1,000,000,000 combinations", "at most 10,000"),
    ),
}


def said(problems: list[Problem]) -> str:
    return "\n".join(map(str, problems))


@pytest.mark.parametrize(("text", "line", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_is_refused_with_line_and_reason(
    problems: ProblemsOf, text: str | bytes, line: int, words: tuple[str, ...]
) -> None:
    found = problems(text)
    assert any(
        problem.line == line and all(word in str(problem) for word in words) for problem in found
    ), said(found)
    assert all(problem.path.endswith("x.yaml") for problem in found)


def test_1_missing_file_names_the_path_and_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such file") as raised:
        load_prompt_set(Path("nowhere.yaml"))
    assert str(tmp_path) in str(raised.value)


def test_1_missing_folder_of_prompt_sets(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        load_prompt_sets(tmp_path / "nowhere")


def test_2_a_folder_is_no_prompt_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder"):
        load_prompt_set(tmp_path)


def test_2_a_file_is_no_folder_of_prompt_sets(write: Write) -> None:
    with pytest.raises(ConfigError, match="is no folder"):
        load_prompt_sets(write("x.yaml", "prompts: {}"))


def test_3_unreadable_file_says_why(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("x.yaml", HEAD + "prompts: {a: b}\n")
    path.chmod(0)
    if os.access(path, os.R_OK):
        # An administrator reads everything: a loop of links is unreadable for them too.
        path.unlink()
        path.symlink_to(path)
    with pytest.raises(ConfigError, match="can't be read"):
        load_prompt_set(path)


def test_5_byte_order_mark_is_accepted(load: Load) -> None:
    text = HEAD + "prompts: {a: b}\n"
    assert load(b"\xef\xbb\xbf" + text.encode()).partition_keys() == ("a",)


def test_11_depth_costs_nothing(problems: ProblemsOf) -> None:
    # A reader that recurses ends with another error, or not at all.
    (problem,) = problems("x: " + "[" * 500_000)
    assert "nested more than 20 levels" in problem.message


def test_12_alias_bomb_costs_nothing(problems: ProblemsOf) -> None:
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 12))
    # Written out, this is a hundred thousand million items.
    found = problems("l0: &l0 [x]\n" + levels)
    assert all("aliases" in problem.message for problem in found)


def test_19_aspect_ratio_needs_no_quotes(load: Load) -> None:
    prompt_set = load(
        "defaults: {aspect_ratio: 21:9}\nprompts: {a: {prompt: b, aspect_ratio: 16:9}, c: d}\n"
    )
    assert [request.input["aspect_ratio"] for request in prompt_set.requests()] == ["16:9", "21:9"]


@pytest.mark.parametrize(
    "text", ["no", "yes", "on", "null", "~", "1.10", "010", "2025-07-29", "1_000", "0x10", "1:30"]
)
def test_20_to_23_text_stays_text(load: Load, text: str) -> None:
    prompt_set = load(f"prompts: {{a: {text}, b: {{prompt: {text}}}}}\n")
    assert [request.input["prompt"] for request in prompt_set.requests()] == [text, text]


def test_21_a_number_like_version_is_text_and_refused_as_a_version(problems: ProblemsOf) -> None:
    (problem,) = problems("version: 1.10\nprompts: {a: b}\n")
    assert "64 hex digits" in problem.message
    assert "4 characters" in problem.message


def test_22_a_number_with_a_leading_zero_is_no_number(problems: ProblemsOf) -> None:
    (problem,) = problems("prompts: {a: {prompt: b, seed: 010}}\n")
    assert "010 is not allowed" in problem.message


TABLES: dict[str, tuple[str, str | bytes, tuple[str, ...]]] = {
    "28 no header": ("t.csv", "", ("empty", "first line must name the columns")),
    "28 header is data": ("t.csv", "1,2\n3,4\n", ("unknown placeholder {name}",)),
    "28 two columns of a name": (
        "t.csv",
        "name,name\n1,2\n",
        ("more than one column called name",),
    ),
    "28 short row": (
        "t.csv",
        "name,b\n1,2\n3\n4,5\n",
        ("t.csv:3:", "row 2 has 1 cells", "header 2"),
    ),
    "28 long row": ("t.csv", "name,b\n1,2\n3,4,5\n", ("t.csv:3:", "row 2 has 3 cells")),
    "28 open quote": ("t.csv", 'name,b\n1,"2\n', ("t.csv:2:", "no valid csv")),
    "28 no UTF-8": ("t.csv", b"name\ncaf\xe9\n", ("t.csv:2:", "at byte 8", "save as UTF-8")),
    "28 UTF-16": ("t.csv", "name\na\n".encode("utf-16"), ("UTF-16",)),
    "28 short row of a tsv": ("t.tsv", "name\tb\n1\t2\n3\n", ("t.tsv:3:", "row 2 has 1 cells")),
    "29 NaN": ("t.jsonl", '{"name": "a"}\n{"name": NaN}\n', ("t.jsonl:2:", "NaN is no JSON")),
    "29 Infinity": ("t.jsonl", '{"name": "a"}\n{"n": -Infinity}\n', ("-Infinity is no JSON",)),
    "29 duplicate keys": (
        "t.jsonl",
        '{"name": "a"}\n{"name": "b", "name": "c"}\n',
        ("t.jsonl:2:", "name", "stands twice"),
    ),
    "30 broken line": ("t.jsonl", '{"name": "a"}\n{"name": \n', ("t.jsonl:2:", "row 2 is no JSON")),
    "30 no object": ("t.jsonl", '{"name": "a"}\n["b"]\n', ("row 2 is a list", "JSON object")),
    "30 missing column": ("t.jsonl", '{"name": "a"}\n{"nam": "b"}\n', ("row 2 has no name",)),
    "30 null": ("t.jsonl", '{"name": "a"}\n{"name": null}\n', ("name is null, not text",)),
    "30 deep": ("t.jsonl", '{"name": "a"}\n' + "[" * 100_000, ("row 2", "nested too deeply")),
    "no parquet": ("t.parquet", "name\na\n", ("no valid Parquet file",)),
    "unknown format": ("t.xlsx", "x", ("no table by its ending", ".csv")),
}

KEYED_TABLES: dict[str, tuple[str, str | bytes, tuple[str, ...]]] = {
    "blank key": ("t.csv", "name,k\na,x\nb,\n", ("row 2", "key column k is blank")),
    "same key twice": ("t.csv", "name,k\na,x\nb,y\nc,x\n", ("t.csv:4:", "(row 1)", "named p-x")),
    "keys too alike": ("t.csv", "name,k\na,A 1\nb,a-1\n", ("t.csv:3:", "(row 1)", "named p-a-1")),
    "no key column": ("t.csv", "name\na\n", ("has no column k", "it has name")),
}


@pytest.mark.parametrize(("name", "table", "words"), TABLES.values(), ids=TABLES.keys())
def test_28_to_30_tables_are_refused_with_the_row(
    write: Write, problems: ProblemsOf, name: str, table: str | bytes, words: tuple[str, ...]
) -> None:
    write(name, table)
    text = said(problems(f'prompts: {{p: {{prompt: "{{name}}", table: {name}}}}}\n'))
    assert all(word in text for word in words), text


@pytest.mark.parametrize(("name", "table", "words"), KEYED_TABLES.values(), ids=KEYED_TABLES.keys())
def test_28_keys_are_refused_with_the_row(
    write: Write, problems: ProblemsOf, name: str, table: str | bytes, words: tuple[str, ...]
) -> None:
    write(name, table)
    text = said(problems(f'prompts: {{p: {{prompt: "{{name}}", table: {name}, key: k}}}}\n'))
    assert all(word in text for word in words), text


def test_28_missing_table_is_named_with_the_line_that_asks_for_it(problems: ProblemsOf) -> None:
    (problem,) = problems('prompts:\n  p:\n    prompt: "{name}"\n    table: gone.csv\n')
    assert problem.line == 5
    assert problem.key == "prompts.p.table"
    assert "gone.csv: no such file" in problem.message


@pytest.mark.parametrize("table", ["../t.csv", "/etc/t.csv", "a/../../t.csv"])
def test_a_table_outside_of_the_folder_is_refused(problems: ProblemsOf, table: str) -> None:
    (problem,) = problems(f'prompts: {{p: {{prompt: "{{name}}", table: {table}}}}}\n')
    assert "leaves the folder" in problem.message


def test_30_every_broken_row_is_reported(write: Write, problems: ProblemsOf) -> None:
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


def test_all_mistakes_of_all_files_come_at_once(write: Write, tmp_path: Path) -> None:
    write(
        "a.yaml",
        HEAD
        + "prompts:\n  x: {prompt: y, takes: 0, num_outputs: 9, takes: 1}\n  Z: y\nowner: me\n",
    )
    write("b.yaml", "prompts: {x: y}\n")
    write("C.yaml", HEAD + "prompts: {x: ''}\n")
    write("d.yaml", HEAD + "prompts: {x: y}\n")
    write("e.yaml", "prompts: [\n")
    with pytest.raises(ConfigError) as raised:
        load_prompt_sets(tmp_path)
    said = "\n".join(f"{Path(p.path).name} {p.key} {p.message}" for p in raised.value.problems)
    for words in (
        "a.yaml prompts.x.takes 0 is not allowed (1 to 1000)",
        'a.yaml prompts.x.takes duplicate key "takes"',
        "a.yaml prompts.x.num_outputs 9 is not allowed (1 to 4)",
        "a.yaml prompts.Z a prompt's name is made of",
        'a.yaml owner unknown key "owner"; did you mean owners?',
        "b.yaml model is missing",
        "C.yaml  the file's name names the prompt set",
        "C.yaml prompts.x.prompt is empty",
        "e.yaml  is not valid YAML",
    ):
        assert words in said, f"{words}\n---\n{said}"
    assert "d.yaml" not in said
    assert "Traceback" not in str(raised.value)


def test_paths_in_messages_stay_as_they_were_given(
    write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write("configs/x.yaml", HEAD + 'prompts: {a: {prompt: "{n}", table: t.csv}}\n')
    write("configs/t.csv", "n,m\n1\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as raised:
        load_prompt_sets(Path("configs"))
    assert str(raised.value).startswith(f"configs{os.sep}t.csv:2: prompts.a: row 1 has 1 cells")


def test_messages_are_safe_on_a_terminal(problems: ProblemsOf) -> None:
    found = problems('prompts: {a: {prompt: b, output_format: "\\e[31mred\\u202E"}}\n')
    assert all(problem.message.isprintable() for problem in found)
    assert sys.getsizeof(str(found)) < 2_000
