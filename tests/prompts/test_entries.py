"""Entries of a prompt set: what is wrong with one is reported together with all other mistakes."""

import json

import pytest

from flux_pipeline.errors import ConfigError
from flux_pipeline.prompts import (
    build_prompt_set,
    entries,
    load_prompt_set,
)
from flux_pipeline.prompts.drafts import derived_seed
from flux_pipeline.prompts.prompt_set import shard_key, shard_of
from tests.prompts.fixtures import HEAD, Load, ProblemsOf, Write


def messages_of(problems: ProblemsOf, text: str) -> list[str]:
    return [f"{problem.key}: {problem.message}" for problem in problems(text)]


def test_a_prompt_is_a_text_or_a_mapping(problems: ProblemsOf) -> None:
    assert messages_of(problems, "prompts: {a: [b], c: d}\n") == [
        "prompts.a: must be a text or a mapping, not a list"
    ]


def test_the_inputs_of_an_entry_with_a_wrong_form_are_checked_too(problems: ProblemsOf) -> None:
    found = messages_of(problems, "prompts: {a: {num_outputs: 9, takes: x, seed: none}}\n")
    assert len(found) == 3
    assert "prompts.a.num_outputs: 9 is not allowed (1 to 4)" in found


def test_the_inputs_of_an_entry_with_a_missing_table_are_checked_too(problems: ProblemsOf) -> None:
    found = messages_of(problems, 'prompts: {a: {prompt: "{x}", table: t.csv, num_outputs: 9}}\n')
    assert len(found) == 2
    assert "prompts.a.num_outputs: 9 is not allowed (1 to 4)" in found


def test_a_lone_brace_is_reported_at_its_field(problems: ProblemsOf) -> None:
    assert messages_of(problems, 'prompts: {a: {prompt: "b } c"}}\n') == [
        "prompts.a.prompt: a lone } at character 3: write }} for a brace"
    ]
    (problem,) = messages_of(problems, 'defaults: {hf_lora: "{x.y}"}\nprompts: {a: b, c: d}\n')
    assert problem.startswith("defaults.hf_lora: {x.y} at character 1 is no placeholder")


def test_an_unknown_placeholder_hides_no_other_mistake(problems: ProblemsOf) -> None:
    found = messages_of(problems, 'prompts: {a: {prompt: b, num_outputs: "{n}", lora_scale: 7}}\n')
    assert len(found) == 2
    assert "prompts.a.lora_scale: 7 is not allowed (0 to 1)" in found


def test_defaults_must_be_a_mapping_of_inputs(problems: ProblemsOf) -> None:
    assert messages_of(problems, "defaults: [a]\nprompts: {a: b}\n") == [
        "defaults: a list is not allowed (a mapping)"
    ]
    (problem,) = messages_of(problems, "defaults: {prompt: b}\nprompts: {a: b}\n")
    assert 'unknown key "prompt"' in problem


@pytest.mark.parametrize(
    "image", ["data:image/png;base64,AAAA", "file:///a.png", "a.png", "https://10.0.0.1/a.png"]
)
def test_an_image_is_a_public_address(problems: ProblemsOf, image: str) -> None:
    (problem,) = messages_of(problems, f"prompts: {{a: {{prompt: b, image: '{image}'}}}}\n")
    assert problem.startswith("prompts.a.image: ")


FIELDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "num_outputs 0": ("num_outputs: 0", ("num_outputs: 0 is not allowed (1 to 4)",)),
    "num_outputs 5": ("num_outputs: 5", ("num_outputs: 5 is not allowed (1 to 4)",)),
    "num_outputs two": ("num_outputs: two", ('"two" is not allowed', "a whole number, 1 to 4")),
    "num_outputs 1.5": ("num_outputs: 1.5", ("1.5 is not allowed", "a whole number")),
    "num_outputs true": ("num_outputs: true", ('"true" is not allowed', "a whole number")),
    "steps 0": ("num_inference_steps: 0", ("0 is not allowed (1 to 12)",)),
    "steps 13": ("num_inference_steps: 13", ("13 is not allowed (1 to 12)",)),
    "quality -1": ("output_quality: -1", ("-1 is not allowed (0 to 100)",)),
    "quality 101": ("output_quality: 101", ("101 is not allowed (0 to 100)",)),
    "prompt_strength 1.01": ("prompt_strength: 1.01", ("1.01 is not allowed (0 to 1)",)),
    "lora_scale high": ("lora_scale: high", ('"high" is not allowed', "a number, 0 to 1")),
    "ratio 0:1": ("aspect_ratio: 0:1", ('"0:1" is not allowed', "one of 1:1, 16:9, 21:9")),
    "ratio 16/9": ("aspect_ratio: 16/9", ('"16/9" is not allowed', "16:9")),
    "ratio 1:1000": ("aspect_ratio: 1:1000", ('"1:1000" is not allowed', "9:21")),
    "format gif": ("output_format: gif", ('"gif" is not allowed (one of webp, jpg, png)',)),
    "format JPG": ("output_format: JPG", ("write jpg", "one of webp, jpg, png")),
    "format jpeg": ("output_format: jpeg", ('"jpeg" is not allowed', "jpg")),
    "seed below zero": ("seed: -1", ("seed: -1 is not allowed (0 to 4294967295)",)),
    "seed too large": ("seed: 4294967296", ("4294967296 is not allowed",)),
    "seed too large in the last take": (
        "{seed: 4294967295, takes: 2}",
        ("in take 2", "4294967296 is not allowed"),
    ),
    "safety switch yes": ("disable_safety_checker: yes", ('"yes" is not allowed (true or false)',)),
    "takes 0": ("takes: 0", ("takes: 0 is not allowed (1 to 1000)",)),
    "takes without seeds": ("{seed: none, takes: 2}", ("same request 2 times", "seed: none")),
    "empty matrix": ("matrix: {a: []}", ("matrix.a: is empty",)),
    "unused matrix": ("matrix: {a: [b]}", ("matrix.a: is used nowhere", "takes")),
    "key without a table": ("key: sku", ("names a column, and there is no table",)),
}


@pytest.mark.parametrize(("field", "words"), FIELDS.values(), ids=FIELDS.keys())
def test_field_is_refused_with_what_is_allowed(
    problems: ProblemsOf, field: str, words: tuple[str, ...]
) -> None:
    inner = field.strip("{}") if field.startswith("{") else field
    (problem,) = problems(f"prompts:\n  a: {{prompt: b, {inner}}}\n")
    assert problem.line == 3
    assert problem.key.startswith("prompts.a.")
    assert all(word in str(problem) for word in words), str(problem)


@pytest.mark.parametrize(
    "field", ["num_outputs: 5", "aspect_ratio: 2:1", "seed: x", "hf_lora: ../x"]
)
def test_a_wrong_default_is_reported_once_and_at_the_defaults(
    problems: ProblemsOf, field: str
) -> None:
    (problem,) = problems(f"defaults:\n  {field}\nprompts: {{a: b, c: {{prompt: d}}, e: f}}\n")
    assert problem.line == 3
    assert problem.key == f"defaults.{field.split(':', 1)[0]}"


PROMPTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "empty": ("", ("is empty",)),
    "blanks": (" \t\n\u3000", ("is blank",)),
    "long": ("a" * 10_001, ("10,001 characters", "at most 10,000")),
    "10 MB": ("a" * 10_000_000, ("10,000,000 characters",)),
    "lone surrogate": ("ab\ud83d", ("lone surrogate", "\\ud83d", "character 3")),
    "NUL": ("a\0b", ("a NUL at character 2",)),
    "bell": ("a\x07", ("control character \\x07", "character 2")),
    "carriage return": ("a\rb", ("control character \\x0d",)),
    "delete": ("a\x7f", ("control character \\x7f",)),
    "ANSI escape": ("\x1b[31mred", ("control character \\x1b", "character 1")),
}


@pytest.mark.parametrize(("prompt", "words"), PROMPTS.values(), ids=PROMPTS.keys())
def test_prompt_is_refused_with_the_place(prompt: str, words: tuple[str, ...]) -> None:
    document = {"model": "lucataco/flux-schnell-lora", "prompts": {"a": prompt}}
    with pytest.raises(ConfigError) as raised:
        build_prompt_set("x", document)
    (problem,) = raised.value.problems
    assert problem.key == "prompts.a.prompt"
    assert all(word in problem.message for word in words), problem.message
    assert problem.message.isprintable()


OF_A_TABLE = ("10 MB", "lone surrogate")


@pytest.mark.parametrize(
    ("prompt", "words"), [PROMPTS[name] for name in OF_A_TABLE], ids=OF_A_TABLE
)
def test_prompt_of_a_table_is_refused_with_the_row(
    write: Write, problems: ProblemsOf, prompt: str, words: tuple[str, ...]
) -> None:
    write("t.jsonl", json.dumps({"text": "a cat"}) + "\n" + json.dumps({"text": prompt}) + "\n")
    (problem,) = problems('prompts: {p: {prompt: "{text}", table: t.jsonl}}\n')
    assert problem.line == 2
    if len(prompt) < 1_000_000:
        assert "(row 2)" in problem.message
        assert all(word in problem.message for word in words), problem.message
    else:
        assert "more than 1,048,576 bytes" in problem.message


ADDRESSES: dict[str, tuple[str, tuple[str, ...]]] = {
    "file": ("file:///etc/passwd", ("scheme file", "https://")),
    "metadata service": ("http://169.254.169.254/x.safetensors", ("scheme http",)),
    "metadata service encrypted": ("https://169.254.169.254/x.safetensors", ("public host",)),
    "loopback": ("https://127.0.0.1/x.safetensors", ("no IP address",)),
    "IPv6": ("https://[::1]/x.safetensors", ("public host",)),
    "mapped": ("https://[::ffff:169.254.169.254]/x.safetensors", ("public host",)),
    "decimal": ("https://2852039166/x.safetensors", ("public host",)),
    "hexadecimal": ("https://0xa9fea9fe/x.safetensors", ("public host",)),
    "localhost": ("https://localhost/x.safetensors", ("public host",)),
    "inner name": ("https://metadata.google.internal/x.safetensors", ("private network",)),
    "user and password": ("https://user:pw@host.com/x.safetensors", ("user name or password",)),
    "user": ("https://user@host.com/x.safetensors", ("user name or password",)),
    "path": ("../x", ("is a path",)),
    "absolute path": ("/etc/passwd", ("is a path",)),
    "Windows path": ("C:\\x\\y", ("is a path",)),
    "no owner": ("frosting_lane_flux", ("is not owner/name",)),
    "three parts": ("a/b/c", ("is not owner/name",)),
    "dots": ("owner/flux.1-lora", ("no dots in owner/name",)),
    "revision": ("owner/name@main", ("no @revision",)),
    "blank in it": ("owner/na me", ("is not owner/name",)),
    "long": (
        "https://example.com/" + "a" * 2_040 + ".safetensors",
        ("2,072 characters", "2,048"),
    ),
    "data": ("data:application/octet-stream;base64,AAAA", ("data: URI",)),
    "not weights": ("https://example.com/model.zip", ("no weights", ".safetensors")),
    "pinned at huggingface.co": (
        f"https://huggingface.co/o/n/resolve/{'0123456789' * 4}/f.safetensors",
        ("loads the main revision", f"write https://hf.co/o/n/resolve/{'0123456789' * 4}/f."),
    ),
    "script": ("javascript:alert(1)//x.safetensors", ("owner/name",)),
    "broken": ("https://[x/y.safetensors", ("not a valid web address",)),
}


@pytest.mark.parametrize(("address", "words"), ADDRESSES.values(), ids=ADDRESSES.keys())
def test_lora_is_refused_with_the_reason(
    problems: ProblemsOf, address: str, words: tuple[str, ...]
) -> None:
    (problem,) = problems(f"prompts:\n  a:\n    prompt: b\n    hf_lora: {json.dumps(address)}\n")
    assert (problem.line, problem.key) == (5, "prompts.a.hf_lora")
    assert all(word in problem.message for word in words), problem.message
    assert "pw@" not in problem.message


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        ("{x: [a, a]}", '"a" stands twice'),
        ("{x: [A 1, a-1]}", '"A 1" and "a-1" give the same name (a-1)'),
        ('{"x.y": [a]}', "a variable's name is made of"),
    ],
)
def test_matrix_mistakes(problems: ProblemsOf, matrix: str, words: str) -> None:
    found = problems(f'prompts: {{a: {{prompt: "b {{x}}", matrix: {matrix}}}}}\n')
    assert any(words in problem.message for problem in found)


def test_rows_and_values_of_other_scripts_are_named_readably_with_the_seeds_that_they_had(
    write: Write, load: Load
) -> None:
    write("t.csv", "item\n杯子\nlamp\n")
    more = "table: t.csv, key: item, matrix: {x: [红]}, takes: 2"
    loaded = load(f'prompts: {{a: {{prompt: "{{item}} {{x}}", {more}}}}}\n')
    stable = ("a-x-95f9e8e7-x-0eb7ee7e", "a-lamp-x-0eb7ee7e")
    assert loaded.prompt_names == ("a-bei-zi-95f9e8e7-hong-0eb7ee7e", "a-lamp-hong-0eb7ee7e")
    assert loaded.all_names() == {*stable, *loaded.prompt_names}
    seeds = [
        loaded.model.fit_seed(derived_seed(loaded.name, name, take))
        for name in stable
        for take in (1, 2)
    ]
    assert [request.seed for request in loaded.requests()] == seeds


def test_a_row_of_another_script_stays_in_its_shard(write: Write, load: Load) -> None:
    write("t.csv", "item\n" + "\n".join(f"杯子{number}" for number in range(40)))
    entry = '{prompt: "{item}", table: t.csv, key: item}'
    loaded = load(f"partitions: {{by: shard, count: 7}}\nprompts: {{a: {entry}}}\n")
    for request in loaded.requests():
        stable = request.source.stable_name
        assert stable.startswith("a-")
        assert stable != request.source.prompt_name
        assert request.source.partition == shard_key(shard_of(stable, 7))
    key = shard_key(shard_of(request.source.stable_name, 7))
    assert request.source.prompt_name in set(loaded.names_in(key))


def test_a_matrix_variable_may_not_hide_a_column(write: Write, problems: ProblemsOf) -> None:
    write("t.csv", "name\na\n")
    (problem,) = problems('prompts: {a: {prompt: "{name}", table: t.csv, matrix: {name: [b]}}}\n')
    assert "is taken" in problem.message


@pytest.mark.parametrize("seed", ["7", "none"])
def test_a_fixed_seed_needs_the_date_in_the_prompt(
    load: Load, problems: ProblemsOf, seed: str
) -> None:
    by_day = "partitions: {by: day, start: 2026-11-01}\n"
    (problem,) = problems(f"prompts: {{a: {{prompt: b, seed: {seed}}}}}\n{by_day}")
    assert "every day would ask for the same image" in problem.message
    assert load(f'prompts: {{a: {{prompt: "b {{date}}", seed: {seed}}}}}\n{by_day}').requests(
        "2026-11-01"
    )


def test_the_date_is_a_placeholder_of_days_alone(problems: ProblemsOf) -> None:
    (problem,) = problems('prompts: {a: "b {date}"}\n')
    assert "unknown placeholder {date}" in problem.message


@pytest.mark.parametrize("by", ["{by: prompt}", "{by: day, start: 2026-11-01}"])
@pytest.mark.parametrize("defaults", ["{}", "{num_outputs: 2}", "{seed: 4}", "{seed: none}"])
@pytest.mark.parametrize(
    "body",
    [
        *("a boat", "none", "'a {{boat}}'", "'a {boat}'", "{prompt: a boat, seed: 7}"),
        *("{prompt: a boat, seed: none}", "{prompt: a boat, aspect_ratio: '16:9'}", "{seed: 7}"),
        *("{prompt: ~}", "{prompt: a boat, takes: 2}", "{prompt: a boat, colour: red}", "{}"),
        *("{prompt: a boat, num_outputs: 9}", '{prompt: "a\\tboat"}', '{prompt: "a\\x07"}'),
    ],
)
def test_a_prompt_without_anything_to_parse_is_what_it_is_with_the_schema(
    write: Write, monkeypatch: pytest.MonkeyPatch, by: str, defaults: str, body: str
) -> None:
    path = write("x.yaml", f"{HEAD}partitions: {by}\ndefaults: {defaults}\nprompts:\n  b: {body}\n")

    def read() -> object:
        try:
            return load_prompt_set(path).expansion.entries
        except ConfigError as error:
            return error.problems

    quick = read()
    monkeypatch.setattr(entries._EntryReader, "_plain_entry", lambda *_: None)
    assert quick == read()
