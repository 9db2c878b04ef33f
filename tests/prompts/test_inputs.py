"""Rows that share a form are checked as each is by itself: the same requests and messages."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.errors import Problems
from flux_pipeline.models import find_model
from flux_pipeline.models.base import Model
from flux_pipeline.prompts import inputs
from flux_pipeline.prompts.expansion import Entry, Expansion, Variant
from flux_pipeline.prompts.inputs import CheckedInput, InputChecker
from flux_pipeline.prompts.skipped_rows import SkippedRows
from flux_pipeline.prompts.tables import Row, Table
from flux_pipeline.prompts.templates import parse_templates
from flux_pipeline.prompts.yaml_document import Document
from flux_pipeline.request import Source
from tests.prompts.fixtures import Load, Write

TYPED = find_model("lucataco/flux-schnell-lora")
BY_CONTRACT = find_model("black-forest-labs/flux-1.1-pro")
PROMPTS = ("a cat", "un café", "un cafe\u0301", "", " ", "a\0", "a\r\nb", "x" * 10_001, "{")
SEEDS = ("", "7", "07", "-1", "8")
CELLS = {
    TYPED: {"aspect_ratio": ("1:1", "16:9", "wide", ""), "hf_lora": ("", "a/b", "a b", "a.b/c")},
    BY_CONTRACT: {"aspect_ratio": ("1:1", "16:9", "wide", ""), "output_quality": ("", "9", "900")},
}


def rows_of(model: Model) -> st.SearchStrategy[list[dict[str, str]]]:
    cells = {"prompt": PROMPTS, "seed": SEEDS, **CELLS[model]}
    row = st.fixed_dictionaries({name: st.sampled_from(texts) for name, texts in cells.items()})
    return st.lists(row, min_size=1, max_size=12)


def outcome(
    entry: Entry, checkers: list[InputChecker], rows: list[dict[str, str]]
) -> list[tuple[Any, ...]]:
    """What each row came to, checked by the checker of its place."""
    found: list[tuple[Any, ...]] = []
    for number, (checker, values) in enumerate(zip(checkers, rows, strict=True), start=1):
        row = Row(number, number + 1, values)
        checked = checker.check(entry, Variant(f"p-{number}", values, row, entry.models[0]))
        found.append(() if checked is None else as_seen(checked))
    return found


def as_seen(checked: CheckedInput) -> tuple[Any, ...]:
    form = checked.form.requests(None, is_seeded=False)
    request = form.request(checked.free, Source("set", "p"))
    return (
        *(request, list(request.input.items()), checked.comparable(), checked.form.warnings),
        *(checked.prompt, checked.seed, checked.form.outputs),
    )


@pytest.mark.parametrize("model", [TYPED, BY_CONTRACT], ids=lambda each: str(each.name))
@settings(max_examples=40)
@given(data=st.data(), blank=st.sampled_from(["error", "empty"]), skips=st.booleans())
def test_rows_of_one_pass_are_checked_as_each_is_by_itself(
    model: Model, data: st.DataObject, blank: str, skips: bool
) -> None:
    rows = data.draw(rows_of(model))
    templates = {name: parse_templates(f"{{{name}}}") for name in rows[0]}
    table = Table(Path("t.csv"), tuple(rows[0]), "", 0, 0)
    entry = Entry("p", (model,), {}, templates, table=table, blank=blank, skips_bad_rows=skips)
    expansion = Expansion(Document("x.yaml", {}), (entry,), Path())
    told = [Problems(), Problems()]
    counted = [SkippedRows(), SkippedRows()]

    together = [InputChecker(expansion, told[0], skipped=counted[0])] * len(rows)
    alone = [InputChecker(expansion, told[1], skipped=counted[1]) for _ in rows]

    assert outcome(entry, together, rows) == outcome(entry, alone, rows)
    assert told[0].as_tuple() == told[1].as_tuple()
    assert counted[0].warnings().as_tuple() == counted[1].warnings().as_tuple()


def test_rows_that_differ_in_their_text_alone_are_validated_whole_once(
    write: Write, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("t.csv", "id,text\n" + "".join(f"{n},text {n}\n" for n in range(30)))
    whole: list[object] = []
    validate = inputs.validate_input
    monkeypatch.setattr(inputs, "validate_input", lambda *args: whole.append(1) or validate(*args))
    prompts = "prompts: {p: {table: t.csv, key: id, prompt: '{text}', aspect_ratio: '1:1'}}"
    assert len(list(load(f"{prompts}\n").requests())) == 30
    assert len(whole) == 2  # on loading, and as they were asked for


def test_values_that_python_takes_for_equal_are_different_inputs() -> None:
    """1 is a number of pictures, and True is none."""
    problems = Problems()
    counts: list[Any] = [1, True]
    entries = [
        Entry(key, (TYPED,), {"prompt": "a", "num_outputs": count})
        for key, count in zip(("p", "q"), counts, strict=True)
    ]
    expansion = Expansion(Document("x.yaml", {}), tuple(entries), Path())
    checker = InputChecker(expansion, problems)
    found = [checker.check(each, Variant(each.key, {}, None, TYPED)) for each in entries]
    assert [each is None for each in found] == [False, True]
    assert [each.key for each in problems.as_tuple()] == ["prompts.q.num_outputs"]


def test_a_pass_keeps_no_more_forms_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "_MOST_FORMS", 2)
    table = Table(Path("t.csv"), ("seed", "scale"), "", 0, 0)
    templates = {"lora_scale": parse_templates("{scale}")}
    entry = Entry("p", (TYPED,), {"prompt": "a"}, templates, table=table)
    checker = InputChecker(Expansion(Document("x.yaml", {}), (entry,), Path()), Problems())
    rows = [{"scale": f"0.{n}"} for n in (1, 2, 3, 1, 2, 3)]
    scales = [request.input["lora_scale"] for request, *_ in outcome(entry, [checker] * 6, rows)]
    assert scales == [0.1, 0.2, 0.3, 0.1, 0.2, 0.3]
    assert len(checker._forms) <= 2


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ("{prompt: a ship}", ["1:1", "1:1"]),
        ("{prompt: a ship, aspect_ratio: '16:9'}", ["1:1", "16:9"]),
        ("{prompt: a ship, seed: 7}", ["1:1", "1:1"]),
        ("{prompt: a ship, lora_scale: 1}", ["1:1", "1:1"]),
    ],
)
def test_prompts_of_one_file_that_look_alike_or_not_ask_for_what_each_says(
    load: Load, second: str, expected: list[str]
) -> None:
    head = "defaults: {aspect_ratio: '1:1', lora_scale: 1.0}\n"
    boats = load(f"{head}prompts: {{a: a boat, b: {second}, c: a canoe}}\n")
    first, other, last = boats.requests()
    assert [first.input["aspect_ratio"], other.input["aspect_ratio"]] == expected
    assert [each.input["prompt"] for each in (first, other, last)] == [
        "a boat",
        "a ship",
        "a canoe",
    ]
    assert last.input == {**first.input, "prompt": "a canoe", "seed": last.input["seed"]}


def test_what_prompts_have_in_common_is_found_out_once(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Entry] = []
    make = inputs._Shared.__init__

    def count(shared: Any, entry: Entry, model: Model) -> None:
        made.append(entry)
        make(shared, entry, model)

    monkeypatch.setattr(inputs._Shared, "__init__", count)
    prompts = "".join(f"  boat-{number}: a boat {number}\n" for number in range(50))
    load(f"prompts:\n{prompts}")
    assert len(made) <= 3  # a pass over the prompts, of which there may be several
