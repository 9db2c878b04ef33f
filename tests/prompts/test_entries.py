"""Entries of a prompt set whose form is wrong, each said with what else is wrong."""

import pytest

from tests.prompts.sets import Load, ProblemsOf, Write


def said(problems: ProblemsOf, text: str) -> list[str]:
    return [f"{problem.key}: {problem.message}" for problem in problems(text)]


def test_a_prompt_is_a_text_or_a_mapping(problems: ProblemsOf) -> None:
    assert said(problems, "prompts: {a: [b], c: d}\n") == [
        "prompts.a: must be a text or a mapping, not a list"
    ]


def test_the_inputs_of_an_entry_with_a_wrong_form_are_checked_too(problems: ProblemsOf) -> None:
    found = said(problems, "prompts: {a: {num_outputs: 9, takes: x, seed: none}}\n")
    assert len(found) == 3
    assert "prompts.a.num_outputs: 9 is not allowed (1 to 4)" in found


def test_the_inputs_of_an_entry_with_a_missing_table_are_checked_too(problems: ProblemsOf) -> None:
    found = said(problems, 'prompts: {a: {prompt: "{x}", table: t.csv, num_outputs: 9}}\n')
    assert len(found) == 2
    assert "prompts.a.num_outputs: 9 is not allowed (1 to 4)" in found


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_a_folder_is_no_table(write: Write, problems: ProblemsOf, name: str) -> None:
    write(f"{name}/x", "")
    (problem,) = said(problems, f'prompts: {{a: {{prompt: "{{x}}", table: {name}}}}}\n')
    assert f"{name}: is a folder, not a table" in problem


def test_a_jsonl_table_without_an_object_has_no_columns(write: Write, problems: ProblemsOf) -> None:
    write("t.jsonl", "\n[]\n")
    (problem,) = said(problems, 'prompts: {a: {prompt: "{x}", table: t.jsonl}}\n')
    assert "holds no JSON object" in problem


def test_an_unreadable_table_says_why(write: Write, problems: ProblemsOf) -> None:
    path = write("t.csv", "")
    path.unlink()
    path.symlink_to("t.csv")
    (problem,) = said(problems, 'prompts: {a: {prompt: "{x}", table: t.csv}}\n')
    assert "t.csv: " in problem


def test_a_lone_brace_is_said_at_its_field(problems: ProblemsOf) -> None:
    assert said(problems, 'prompts: {a: {prompt: "b } c"}}\n') == [
        "prompts.a.prompt: a lone } at character 3: write }} for a brace"
    ]
    (problem,) = said(problems, 'defaults: {hf_lora: "{x.y}"}\nprompts: {a: b, c: d}\n')
    assert problem.startswith("defaults.hf_lora: {x.y} at character 1 is no placeholder")


def test_an_unknown_placeholder_hides_no_other_mistake(problems: ProblemsOf) -> None:
    found = said(problems, 'prompts: {a: {prompt: b, num_outputs: "{n}", lora_scale: 7}}\n')
    assert len(found) == 2
    assert "prompts.a.lora_scale: 7 is not allowed (0 to 1)" in found


def test_defaults_must_be_a_mapping_of_inputs(problems: ProblemsOf) -> None:
    assert said(problems, "defaults: [a]\nprompts: {a: b}\n") == [
        "defaults: a list is not allowed (a mapping)"
    ]
    (problem,) = said(problems, "defaults: {prompt: b}\nprompts: {a: b}\n")
    assert 'unknown key "prompt"' in problem


def test_an_image_of_a_host_with_foreign_letters_is_warned_of(load: Load) -> None:
    (warning,) = load(
        "prompts: {a: {prompt: b, image: 'https://ex\u00e4mple.com/a.png'}}\n"
    ).warnings
    assert "letters beyond a-z" in warning.message


@pytest.mark.parametrize(
    "image", ["data:image/png;base64,AAAA", "file:///a.png", "a.png", "https://10.0.0.1/a.png"]
)
def test_an_image_is_a_public_address(problems: ProblemsOf, image: str) -> None:
    (problem,) = said(problems, f"prompts: {{a: {{prompt: b, image: '{image}'}}}}\n")
    assert problem.startswith("prompts.a.image: ")


def test_long_names_of_rows_end_in_their_hash(write: Write, load: Load) -> None:
    write("t.csv", "k\n" + "a" * 200 + "\n" + "a" * 199 + "\n")
    first, second = load('prompts: {p: {prompt: "{k}", table: t.csv, key: k}}\n').partition_keys()
    assert first != second
    assert max(len(first), len(second)) <= 120
