"""Files, folders and mappings are loaded, or refused with every mistake and its line."""

import hashlib
import os
import sys
from pathlib import Path

import pytest

from flux_pipeline.errors import ConfigError, Problem
from flux_pipeline.prompts import (
    ByPrompt,
    Document,
    build_prompt_set,
    load_prompt_set,
    load_prompt_sets,
)
from tests.prompts.fixtures import HEAD, Load, ProblemsOf, Write

# The text behind line 1, which names the model; the line of the problem; words of the message.
REFUSED: dict[str, tuple[str | bytes, int, tuple[str, ...]]] = {
    "empty": (b"", 0, ("no prompts",)),
    "only comments": (b"# nothing\n\n", 0, ("no prompts",)),
    "UTF-16 with a mark": ("prompts: {}".encode("utf-16"), 0, ("UTF-16", "save as UTF-8")),
    "UTF-16 without a mark": ("prompts: {}".encode("utf-16-le"), 0, ("save as UTF-8",)),
    "invalid UTF-8": (b"prompts:\n  a: caf\xe9\n", 2, ("at byte 17", "save as UTF-8")),
    "invalid UTF-8 behind a mark": (b"\xef\xbb\xbfa: \xe9\n", 1, ("at byte 6",)),
    "NUL": (b"prompts:\n  a: b\n  c: d\0\n", 3, ("NUL",)),
    "tab indent": ("prompts:\n\ta: b\n", 3, ("tab", "only spaces")),
    "too large": (b"#" * (2**20 + 1), 0, ("1,048,576 bytes", "1 MiB")),
    "deep": ("x: " + "[" * 5000 + "]" * 5000, 2, ("nested more than 20 levels",)),
    "alias bomb": ("a: &a [x, x]\nb: &b [*a, *a]\nprompts: {c: *b}\n", 2, ("aliases",)),
    "recursive alias": ("prompts: &p {a: *p}\n", 2, ("aliases", "not supported")),
    "python tag": ("prompts: !!python/object:os.system {}\n", 2, ("tag", "refused")),
    "any tag": ("prompts: {a: !!str b}\n", 2, ("tag",)),
    "duplicate key": ("prompts:\n  a: b\n  c: d\n  a: e\n", 5, ("duplicate key", "line 3")),
    "two documents": ("prompts: {a: b}\n---\nprompts: {c: d}\n", 3, ("second document",)),
    "a list": (b"- a\n- b\n", 1, ("a list", "mapping")),
    "a scalar": (b"just text\n", 1, ("a single value", "mapping")),
    "unknown key": (
        "prompts: {a: b}\nscheduel: x\n",
        3,
        ("unknown key", "did you mean schedule"),
    ),
    "unknown input": (
        "prompts:\n  a:\n    prompt: b\n    num_output: 2\n",
        5,
        ("unknown key", "did you mean num_outputs"),
    ),
    "nan": (
        "prompts: {a: {prompt: b, lora_scale: .nan}}\n",
        2,
        ('".nan" is not allowed', "0 to 1"),
    ),
    "inf": ("prompts: {a: {prompt: b, lora_scale: .inf}}\n", 2, ('".inf" is not allowed',)),
    "inf in disguise": ("prompts: {a: {prompt: b, lora_scale: 1e999}}\n", 2, ("not allowed",)),
    "5,000 digits": (
        f"prompts: {{a: {{prompt: b, seed: {'9' * 5000}}}}}\n",
        2,
        ("not allowed",),
    ),
    "missing prompt": ("prompts:\n  a:\n    takes: 2\n", 3, ("is missing",)),
    "missing prompts": ("description: x\n", 0, ("prompts: is missing",)),
    "empty short form": ("prompts:\n  a:\n", 3, ("is empty",)),
    "no prompts": ("prompts: {}\n", 2, ("is empty",)),
    "prompts is a list": ("prompts: [a, b]\n", 2, ("a list", "mapping")),
    "unknown variable": (
        'prompts:\n  a:\n    prompt: "an {animal} at {hour}"\n    matrix: {hour: [dawn]}\n',
        4,
        ("unknown placeholder {animal}", "allowed: hour"),
    ),
    "no variables at all": ('prompts: {a: "an {animal}"}\n', 2, ("{animal}", "a matrix")),
    "matrix explosion": (
        'prompts:\n  a:\n    prompt: "{a}{b}{c}{d}{e}{f}{g}{h}{i}"\n    matrix:\n'
        + "".join(f"      {name}: [{', '.join(map(str, range(10)))}]\n" for name in "abcdefghi"),
        5,
        ("1,000,000,000 combinations", "at most 10,000"),
    ),
}


def joined(problems: list[Problem]) -> str:
    return "\n".join(map(str, problems))


@pytest.mark.parametrize(("text", "line", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_is_refused_with_line_and_reason(
    problems: ProblemsOf, text: str | bytes, line: int, words: tuple[str, ...]
) -> None:
    found = problems(text)
    assert any(
        problem.line == line and all(word in str(problem) for word in words) for problem in found
    ), joined(found)
    assert all(problem.path.endswith("x.yaml") for problem in found)


def test_missing_file_names_the_path_and_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such file") as raised:
        load_prompt_set(Path("nowhere.yaml"))
    assert str(tmp_path) in str(raised.value)


def test_missing_folder_of_prompt_sets(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        load_prompt_sets(tmp_path / "nowhere")


def test_a_folder_is_no_prompt_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder"):
        load_prompt_set(tmp_path)


def test_a_pipe_is_no_prompt_set_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(ConfigError, match=r"pipe\.yaml: is a pipe, a socket or a device"):
        load_prompt_sets(tmp_path)


def test_a_file_is_no_folder_of_prompt_sets(write: Write) -> None:
    with pytest.raises(ConfigError, match="is no folder"):
        load_prompt_sets(write("x.yaml", "prompts: {}"))


def test_unreadable_file_says_why(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("x.yaml", HEAD + "prompts: {a: b}\n")
    path.chmod(0)
    if os.access(path, os.R_OK):
        # An administrator reads everything: a loop of links is unreadable for them too.
        path.unlink()
        path.symlink_to(path)
    with pytest.raises(ConfigError, match="can't be read"):
        load_prompt_set(path)


def test_byte_order_mark_is_accepted(load: Load) -> None:
    text = HEAD + "prompts: {a: b}\n"
    assert load(b"\xef\xbb\xbf" + text.encode()).partition_keys() == ("a",)


def test_depth_costs_nothing(problems: ProblemsOf) -> None:
    # A reader that recurses ends with another error, or not at all.
    (problem,) = problems("x: " + "[" * 500_000)
    assert "nested more than 20 levels" in problem.message


def test_alias_bomb_costs_nothing(problems: ProblemsOf) -> None:
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 12))
    # Written out, this is a hundred thousand million items.
    found = problems("l0: &l0 [x]\n" + levels)
    assert all("aliases" in problem.message for problem in found)


def test_aspect_ratio_needs_no_quotes(load: Load) -> None:
    prompt_set = load(
        "defaults: {aspect_ratio: 21:9}\nprompts: {a: {prompt: b, aspect_ratio: 16:9}, c: d}\n"
    )
    assert [request.input["aspect_ratio"] for request in prompt_set.requests()] == ["16:9", "21:9"]


@pytest.mark.parametrize(
    "text", ["no", "yes", "on", "null", "~", "1.10", "010", "2025-07-29", "1_000", "0x10", "1:30"]
)
def test_text_stays_text(load: Load, text: str) -> None:
    prompt_set = load(f"prompts: {{a: {text}, b: {{prompt: {text}}}}}\n")
    assert [request.input["prompt"] for request in prompt_set.requests()] == [text, text]


def test_a_number_like_version_is_text_and_refused_as_a_version(problems: ProblemsOf) -> None:
    (problem,) = problems("version: 1.10\nprompts: {a: b}\n")
    assert "64 hex digits" in problem.message
    assert "4 characters" in problem.message


def test_a_number_with_a_leading_zero_is_no_number(problems: ProblemsOf) -> None:
    (problem,) = problems("prompts: {a: {prompt: b, seed: 010}}\n")
    assert "010 is not allowed" in problem.message


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
    messages = "\n".join(f"{Path(p.path).name} {p.key} {p.message}" for p in raised.value.problems)
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
        assert words in messages, f"{words}\n---\n{messages}"
    assert "d.yaml" not in messages
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


TEN_MISTAKES = """\
description: Ten mistakes
model: lucataco/flux-schnell-laura
defualts: {aspect_ratio: 16:9}
defaults: {num_outputs: 5, output_format: gif}
prompts:
  a: ""
  b: {prompt: "x", num_inference_steps: 13}
  c: {prompt: "a {animal}"}
  c: {prompt: "again"}
  d: {prompt: "y", table: missing.csv}
schedule: {cron: "61 * * * *", timezone: Mars/Olympus}
"""


def test_an_unknown_model_and_a_duplicate_key_hide_nothing(tmp_path: Path) -> None:
    (tmp_path / "ten.yaml").write_text(TEN_MISTAKES)
    (tmp_path / "eleven.yaml").write_text("prompts: {a: {}}\n")

    with pytest.raises(ConfigError) as error:
        load_prompt_sets(tmp_path)

    found = {(Path(p.path).stem, p.line, p.key) for p in error.value.problems}
    assert found == {
        ("ten", 2, "model"),
        ("ten", 3, "defualts"),
        ("ten", 4, "defaults.num_outputs"),
        ("ten", 4, "defaults.output_format"),
        ("ten", 6, "prompts.a.prompt"),
        ("ten", 7, "prompts.b.num_inference_steps"),
        ("ten", 8, "prompts.c.prompt"),
        ("ten", 9, "prompts.c"),
        ("ten", 10, "prompts.d.table"),
        ("ten", 11, "schedule.cron"),
        ("ten", 11, "schedule.timezone"),
        ("eleven", 0, "model"),
    }


def test_a_folder_is_read_in_the_order_of_names_and_without_its_subfolders(
    write: Write, tmp_path: Path
) -> None:
    for name in ("b.yaml", "a-1.yml", "c.txt", "sub/d.yaml"):
        write(name, HEAD + "prompts: {a: b}\n")
    assert [prompt_set.name for prompt_set in load_prompt_sets(tmp_path)] == ["a_1", "b"]


def test_an_empty_folder_holds_no_sets(tmp_path: Path) -> None:
    assert load_prompt_sets(tmp_path) == ()


def test_two_files_of_one_name_are_refused(write: Write, tmp_path: Path) -> None:
    write("a-b.yaml", HEAD + "prompts: {a: b}\n")
    write("a_b.yaml", HEAD + "prompts: {a: b}\n")
    with pytest.raises(ConfigError, match="is named a_b, and so is"):
        load_prompt_sets(tmp_path)


def test_an_unreadable_folder_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ConfigError, match="can't be read: Permission denied"):
        load_prompt_sets(tmp_path)


def test_a_mapping_may_hold_numbers_where_a_file_holds_text(load: Load) -> None:
    document = {
        "model": "lucataco/flux-schnell-lora",
        "defaults": {"num_outputs": 2, "lora_scale": 1},
        "prompts": {"a": {"prompt": "b {n}", "matrix": {"n": [1, 2.5]}, "takes": 2}},
        "budget": {"usd_per_run": 1},
    }
    built = build_prompt_set("x", document)
    loaded = load(
        "defaults: {num_outputs: 2, lora_scale: 1}\n"
        'prompts: {a: {prompt: "b {n}", matrix: {n: [1, 2.5]}, takes: 2}}\n'
    )
    assert [r.request_sha256 for r in built.requests()] == [
        r.request_sha256 for r in loaded.requests()
    ]
    assert built.path == ""


def test_a_mapping_says_its_mistakes_with_its_name_and_given_lines() -> None:
    document = {
        "model": "lucataco/flux-schnell-lora",
        "prompts": {"a": {"prompt": 3.5, "takes": True}, 7: "x"},
    }
    with pytest.raises(ConfigError) as raised:
        build_prompt_set("x", Document("defs.yaml", document, {("prompts", "a"): 9}))
    assert str(raised.value).splitlines() == [
        "defs.yaml: prompts.7: must be text, not 7; put it in quotes",
        "defs.yaml:9: prompts.a.takes: true is not allowed (a whole number, 1 to 1000)",
    ]


def test_an_aspect_ratio_that_yaml_made_a_number_is_refused_with_the_hint() -> None:
    document = {
        "model": "lucataco/flux-schnell-lora",
        "prompts": {"a": {"prompt": "b", "aspect_ratio": 969}},
    }
    with pytest.raises(ConfigError, match=r"969 is not allowed \(one of 1:1"):
        build_prompt_set("x", document)


def test_tables_of_a_mapping_are_looked_for_in_the_folder_given(
    write: Write, tmp_path: Path
) -> None:
    write("t.csv", "name\na\n")
    document = {
        "model": "lucataco/flux-schnell-lora",
        "prompts": {"p": {"prompt": "{name}", "table": "t.csv"}},
    }
    assert build_prompt_set("x", document, folder=tmp_path).partition_keys() == ("p-row-000001",)
    assert build_prompt_set("x", document, path=str(tmp_path / "defs.yaml")).partition_keys()


def test_null_in_a_mapping_is_as_if_left_out() -> None:
    document = {
        "model": "lucataco/flux-schnell-lora",
        "defaults": {"hf_lora": "a/b", "seed": None},
        "prompts": {"a": {"prompt": "b", "hf_lora": None, "seed": None}, "c": "d"},
    }
    first, second = build_prompt_set("x", document).requests()
    assert first.input.keys() == {"prompt", "seed"}
    assert second.input["hf_lora"] == "a/b"


def test_every_key_of_a_file_is_read(write: Write) -> None:
    write("prompts/products.csv", "sku,name\nA-1,oak chair\nA-2,pine table\n")
    path = write(
        "winter.yaml",
        """\
description: Winter campaign
model: lucataco/flux-schnell-lora          # the version is pinned by the model
owners: ["team:studio"]
tags: {campaign: winter}
defaults: {hf_lora: alvdansen/frosting_lane_flux, aspect_ratio: "16:9"}
prompts:
  castle: a beautiful castle frstingln illustration
  harbour:
    prompt: "a {weather} harbour at {hour}, frstingln illustration"
    matrix: {weather: [calm, stormy], hour: [dawn, dusk]}
    takes: 3
  product:
    prompt: "{name}, studio light"
    table: prompts/products.csv
    key: sku
partitions: {by: prompt}
schedule: {cron: "0 6 * * *", timezone: Asia/Shanghai}
budget: {usd_per_run: 5, usd_per_month: 100}
""",
    )
    prompt_set = load_prompt_set(path)
    assert prompt_set.name == "winter"
    assert prompt_set.path == str(path)
    assert prompt_set.description == "Winter campaign"
    assert prompt_set.owners == ("team:studio",)
    assert prompt_set.tags == {"campaign": "winter"}
    assert prompt_set.partitions == ByPrompt(by="prompt")
    assert prompt_set.schedule is not None
    assert (prompt_set.schedule.cron, prompt_set.schedule.timezone) == (
        "0 6 * * *",
        "Asia/Shanghai",
    )
    assert (prompt_set.budget.usd_per_run, prompt_set.budget.usd_per_month) == (5, 100)
    assert prompt_set.automation == "on_schedule"
    assert prompt_set.partition_keys() == (
        "castle",
        "harbour-calm-dawn",
        "harbour-calm-dusk",
        "harbour-stormy-dawn",
        "harbour-stormy-dusk",
        "product-a-1",
        "product-a-2",
    )
    requests = list(prompt_set.requests())
    assert len(requests) == 1 + 4 * 3 + 2
    assert requests[1].input == {
        "prompt": "a calm harbour at dawn, frstingln illustration",
        "hf_lora": "alvdansen/frosting_lane_flux",
        "aspect_ratio": "16:9",
        "seed": requests[1].seed,
    }
    assert requests[3].source.take == 3
    assert requests[3].source.config_path == str(path)


def test_left_out_keys_have_defaults(load: Load) -> None:
    prompt_set = load("prompts: {a: b}\n")
    assert prompt_set.partitions == ByPrompt(by="prompt")
    assert prompt_set.automation == "none"
    assert prompt_set.schedule is None
    assert prompt_set.budget.usd_per_run is None
    assert prompt_set.version == prompt_set.model.version
    assert prompt_set.warnings == ()
    assert prompt_set.is_checked


def test_too_many_prompts_for_a_partition_each_are_told_to_choose_shard(
    write: Write, problems: ProblemsOf, load: Load
) -> None:
    write("t.csv", "name\n" + "".join(f"n{n}\n" for n in range(1_200)))
    table = 'prompts: {a: {prompt: "{name}", table: t.csv}}\n'
    (problem,) = problems(table)
    assert problem.key == "partitions"
    assert "1,200 prompts" in problem.message
    assert "partitions: {by: shard, count: 3}" in problem.message
    assert len(list(load(table + "partitions: {by: shard, count: 3}\n").requests())) == 1_200


def test_the_checksum_is_the_files_own_and_changes_with_its_tables(write: Write) -> None:
    path = write("x.yaml", HEAD + "prompts: {a: b}\n")
    assert load_prompt_set(path).config_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    write("t.csv", "name\na\n")
    path = write("x.yaml", HEAD + 'prompts: {a: {prompt: "{name}", table: t.csv}}\n')
    before = load_prompt_set(path).config_sha256
    write("t.csv", "name\nb\n")
    assert load_prompt_set(path).config_sha256 != before


def test_a_model_that_is_not_known_is_answered_with_the_nearest(
    write: Write, problems: ProblemsOf
) -> None:
    (problem,) = problems(b"model: lucataco/flux-schnel-lora\nprompts: {a: b}\n")
    assert "did you mean lucataco/flux-schnell-lora?" in problem.message
