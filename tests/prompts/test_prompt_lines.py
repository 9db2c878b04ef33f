"""Files with a prompt a line: what is read of them at once, and that it is what a parser reads."""

from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from hypothesis import event, given, settings
from hypothesis import strategies as st

from flux_pipeline.errors import ConfigError
from flux_pipeline.models import BUILT_IN
from flux_pipeline.prompts import PromptSet, load_prompt_sets, yaml_document
from flux_pipeline.prompts.load_cache import OFF, LoadCache
from flux_pipeline.prompts.prompt_lines import find_prompt_lines
from flux_pipeline.prompts.yaml_document import parse_yaml

MODEL = "lucataco/flux-schnell-lora"
HEAD = f"model: {MODEL}\n"
PROMPT = "a: a boat"


def test_prompts_of_a_line_each_are_found_with_the_file_around_the_first() -> None:
    others = "  b-2: 'a ship'\n  # more\n\n  c: \"a: #2\"\n"
    text = f"# boats\n{HEAD}prompts:\n\n  a: a boat\n{others}owners: []\n"
    found = find_prompt_lines(text)
    assert found is not None
    assert found.texts == {"a": "a boat", "b-2": "a ship", "c": "a: #2"}
    assert found.sample == f"# boats\n{HEAD}prompts:\n\n  a: a boat\n\n\n\n\nowners: []\n"
    assert found.line == 5
    assert found.is_sample(parse_yaml(found.sample.encode(), "x.yaml"))


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("b: a 16:9 view of http://x.example/#top, it's [so] 100%", None),
        ("b: 城堡 über allem 🚢", None),
        ("b:   010", "010"),
        ("b: null", None),
        ("no: yes", "yes"),
        ("b: a boat\r", "a boat"),
        ('b: "a boat: it\'s # new "', "a boat: it's # new "),
        ("b: 'a \"boat\" \\ of *wood*'", 'a "boat" \\ of *wood*'),
    ],
)
def test_a_line_is_what_yaml_says_it_is(line: str, text: str | None) -> None:
    content = f"prompts:\n  {PROMPT}\n  {line}\n"
    found = find_prompt_lines(content)
    assert found is not None
    assert found.texts == parse_yaml(content.encode(), "x.yaml").value["prompts"]
    key, _, literal = line.partition(":")
    assert found.texts[key] == (literal.strip() if text is None else text)


@pytest.mark.parametrize(
    "line",
    [
        "b: a {colour} boat",
        "b: a boat # new",
        "b: a boat: of wood",
        "b: a boat:",
        "b: a boat ",
        "b: a\tboat",
        "b: a\xa0boat",
        "b: a\u2028boat",
        "b: a\x07boat",
        "b: &boat a boat",
        "b: !!str a boat",
        "b: *boat",
        "b: |",
        "b: - a boat",
        "b:",
        "b: {prompt: a boat}",
        "b: [a boat]",
        'b: "a \\x62oat"',
        "b: 'it''s a boat'",
        'b: "a boat" of wood',
        'b: "a boat',
        "B: a boat",
        f"{'b' * 61}: a boat",
        "a: a ship",
        "- a boat",
        "? b",
        "b : a boat",
        " b: a boat",
        "  and of wood",
        "# a\x07comment",
    ],
)
def test_a_file_with_another_line_is_left_to_the_parser(line: str) -> None:
    assert find_prompt_lines(f"prompts:\n  {PROMPT}\n  {line}\n  z: a ship\n") is None


@pytest.mark.parametrize(
    "text",
    [
        f'description: "x\nprompts:\n  {PROMPT}\n  b: a ship\n"\nprompts: {{a: a boat}}\n',
        f"description: |\n prompts:\n\nprompts: \n  {PROMPT}\nprompts:\n  b: a ship\n",
        f"{{description: x,\nprompts:\n  {PROMPT}\n}}\n",
        f"prompts:\n  {PROMPT}\n  b: a ship\n x: y\n",
    ],
)
def test_lines_that_only_look_like_prompts_are_not_taken_for_them(text: str) -> None:
    found = find_prompt_lines(text)
    try:
        whole = parse_yaml(text.encode(), "x.yaml")
        sample = found and parse_yaml(found.sample.encode(), "x.yaml")
    except ConfigError:
        return  # it is refused, whoever reads it
    taken = found is not None and sample is not None and found.is_sample(sample)
    assert not taken or (found and found.texts == whole.value["prompts"])


@pytest.mark.parametrize(
    "text",
    [
        "none",
        "",
        "  ",
        "x" * 10_001,
        "a boat\u200b of wood",
        "a boat for r8_aB3dE6gHaB3dE6gHaB3dE6gH",
        "bearer abcdefgh12345678",
        "word " * 300,
        "a ship",
        "cafe\u0301",
    ],
)
def test_texts_that_are_refused_or_warned_of_are_not_right(text: str) -> None:
    model = BUILT_IN.find(MODEL)
    found = find_prompt_lines(f"prompts:\n  {PROMPT}\n  b: a ship\n  c: caf\xe9\n  d: '{text}'\n")
    assert found is not None
    assert not found.are_right(model)
    right = find_prompt_lines(f"prompts:\n  {PROMPT}\n  b: a ship\n  c: caf\xe9\n")
    assert right is not None
    assert right.are_right(model)


KEYS = st.sampled_from(["a", "b", "c-1", "d_2", "0", "no", "null", "B", "e:", "-f"])
LITERALS = st.one_of(
    st.sampled_from(
        [
            *("a boat", "a ship", "16:9", "'it is'", '"so: #1"', "a #b", "a # b", "a: b", "none"),
            *("{prompt: a}", "a {x}", "'a", "|", "|\n    a\n    b", "~", "", "[a]", "&x a", "*x"),
            *("caf\xe9", "cafe\u0301", "a\u200bb", "a\n   b", "a\n", "a\r", "r8_" + "aB3dE6gH" * 3),
        ]
    ),
    st.text(alphabet="ab :#-'\"{}[],&*!|>%@\t\n\\\xe9\u2028", max_size=8),
)
LINES = st.one_of(
    st.builds("  {}: {}\n".format, KEYS, LITERALS),
    st.builds("  p{}: a view of {}\n".format, st.integers(0, 30), st.integers(0, 30)),
    st.builds("  p{}: a view of {}\n".format, st.integers(0, 99), st.integers(0, 99)),
    st.sampled_from(["\n", "  # more\n", "# more\n", "    # more\n", " \n", "\t\n", "...\n"]),
)
HEADS = st.sampled_from(
    [
        HEAD,
        f"---\n{HEAD}partitions: {{by: shard, count: 3}}\n",
        f"{HEAD}defaults: {{num_outputs: 2, seed: 3}}\ndescription: 'x\n\n  y'\n",
        f"{HEAD}defaults: {{seed: none}}\n",
        f"{HEAD}partitions: {{by: day, start: 2026-11-01}}\n",
        f'{HEAD}description: "x\n',
        "",
    ]
)
TAILS = st.sampled_from(
    ["", "owners: ['team:x']\n", '"\n', "prompts: {a: b}\n", "---\n", " x: y\n"]
)


def outcome(folder: Path, cache: LoadCache) -> Any:
    """All that a load comes to: the set with its requests, or what is said about the file."""
    try:
        (loaded,) = load_prompt_sets(folder, cache)
    except ConfigError as error:
        return error.problems
    values = {each.name: getattr(loaded, each.name) for each in fields(PromptSet)}
    del values["expansion"]
    days = ["2026-11-01"] if loaded.partitions.by == "day" else None
    lines = [loaded.expansion.line(key) for key in ("model", "prompts", "owners")]
    return values, lines, list(loaded.requests(days))


@settings(max_examples=200)
@given(head=HEADS, lines=st.lists(LINES, min_size=1, max_size=6), tail=TAILS)
def test_reading_lines_at_once_comes_to_what_parsing_comes_to(
    head: str, lines: list[str], tail: str
) -> None:
    text = f"{head}prompts:\n{''.join(lines)}{tail}"
    event(f"in lines: {find_prompt_lines(text) is not None}")
    with TemporaryDirectory() as name:
        folder = Path(name, "configs")
        folder.mkdir()
        (folder / "x.yaml").write_bytes(text.encode())
        cache = LoadCache(Path(name, "cache"), writes=True)
        parsed = outcome(folder, OFF)
        assert outcome(folder, cache) == parsed
        assert outcome(folder, cache) == parsed, "remembered"


def test_a_thousand_lines_cost_the_parser_no_more_than_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [0]

    def counting(builder: Any, event: yaml.Event) -> bool:
        events[-1] += 1
        return add(builder, event)

    add = yaml_document._Builder.add
    monkeypatch.setattr(yaml_document._Builder, "add", counting)
    for count in (2, 1_000):
        events.append(0)
        lines = "".join(f"  view-{number}: a harbour, view {number}\n" for number in range(count))
        (tmp_path / "x.yaml").write_text(f"{HEAD}prompts:\n{lines}owners: ['team:x']\n")
        (loaded,) = load_prompt_sets(tmp_path, LoadCache(tmp_path / "cache"))
        assert len(loaded.partition_keys()) == count
    assert events[1] == events[2]
    assert len(list(loaded.requests())) == 1_000
    assert events[2] > 2_000, "read whole once they are asked for"


def test_a_thousand_and_one_prompts_are_still_too_many_for_a_partition_each(tmp_path: Path) -> None:
    lines = "".join(f"  view-{number}: a harbour, view {number}\n" for number in range(1_001))
    (tmp_path / "x.yaml").write_text(f"{HEAD}prompts:\n{lines}")
    with pytest.raises(ConfigError, match="1,001 prompts are too many for a partition each"):
        load_prompt_sets(tmp_path, LoadCache(tmp_path / "cache"))
