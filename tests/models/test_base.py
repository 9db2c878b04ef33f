"""Field types accept their own type and its plain text; token counts are estimated."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from flux_pipeline.models import BUILT_IN
from flux_pipeline.models.base import (
    Number,
    PromptText,
    Switch,
    Text,
    WholeNumber,
    are_plain_prompts,
    estimate_tokens,
)

whole_number: TypeAdapter[int] = TypeAdapter(WholeNumber)
number: TypeAdapter[float] = TypeAdapter(Number)
text: TypeAdapter[str] = TypeAdapter(Text)
switch: TypeAdapter[bool] = TypeAdapter(Switch)
prompt: TypeAdapter[str] = TypeAdapter(PromptText)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(2, 2), ("2", 2), ("-7", -7), ("0", 0), (1.0, 1), ("1.0", 1), ("4294967295.00", 2**32 - 1)],
)
def test_a_whole_number_is_an_int_or_its_text_or_either_with_a_zero_fraction(
    value: object, expected: int
) -> None:
    assert whole_number.validate_python(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        True,
        1.5,
        "two",
        "1.5",
        "1.",
        "01.0",
        1e300,
        float("inf"),
        float("nan"),
        "01",
        "+1",
        " 1",
        "1_0",
        "",
        None,
        [1],
    ],
)
def test_a_whole_number_is_nothing_else(value: object) -> None:
    with pytest.raises(ValidationError):
        whole_number.validate_python(value)


@given(st.integers(-(10**15), 10**15))
def test_a_whole_number_is_the_same_in_each_of_its_forms(n: int) -> None:
    forms = [n, str(n), float(n), f"{n}.0"]
    assert {whole_number.validate_python(form) for form in forms} == {n}


@pytest.mark.parametrize(
    ("text", "expected"), [("0.5", 0.5), (".5", 0.5), ("1", 1.0), ("5e-1", 0.5), ("1.", 1.0)]
)
def test_numbers_are_read_from_text(text: str, expected: float) -> None:
    assert number.validate_python(text) == expected


@pytest.mark.parametrize(
    "value", [True, "high", "nan", "inf", float("nan"), float("inf"), "1e999", ""]
)
def test_a_number_is_finite_and_no_word(value: object) -> None:
    with pytest.raises(ValidationError):
        number.validate_python(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, True), ("true", True), ("false", False), ("TRUE", True), ("False", False)],
)
def test_a_switch_is_true_or_false(value: object, *, expected: bool) -> None:
    assert switch.validate_python(value) is expected


@pytest.mark.parametrize("value", [0, 1, "yes", "on", "tRUE", "", None])
def test_a_switch_is_nothing_else(value: object) -> None:
    with pytest.raises(ValidationError):
        switch.validate_python(value)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("", 0, 0),
        ("a cat", 2, 2),
        ("a beautiful castle, illustration", 6, 9),
        ("城堡", 2, 2),
        ("🏰🏰", 2, 2),
        ("Pneumonoultramicroscopicsilicovolcanoconiosis", 7, 20),
    ],
)
def test_the_estimate_of_tokens_is_of_the_right_size(text: str, low: int, high: int) -> None:
    assert low <= estimate_tokens(text) <= high


def test_line_ends_of_windows_become_line_feeds_and_a_lone_return_is_refused() -> None:
    assert text.validate_python("a\r\nb\r\n") == "a\nb\n"
    with pytest.raises(ValidationError):
        text.validate_python("a\rb")


@settings(max_examples=30)
@given(st.text(), st.text())
def test_more_text_never_has_fewer_tokens(first: str, second: str) -> None:
    assert estimate_tokens(f"{first} {second}") >= estimate_tokens(first)


@settings(max_examples=30)
@given(st.text())
def test_a_token_has_a_character_at_least(text: str) -> None:
    assert estimate_tokens(text) <= len(text)


@given(st.lists(st.one_of(st.text(max_size=6), st.sampled_from(["a" * 10_000, "b" * 10_001]))))
def test_plain_prompts_are_accepted_as_they_stand(texts: list[str]) -> None:
    if are_plain_prompts(texts):
        assert list(map(prompt.validate_python, texts)) == texts


@pytest.mark.parametrize("text", ["", "  ", "a\tb", "a\nb", "caf\xe9", "a\x00b", "a" * 10_001])
def test_other_prompts_are_not_plain(text: str) -> None:
    assert are_plain_prompts(["a boat", "a" * 10_000])
    assert not are_plain_prompts(["a boat", text])


def test_where_a_prompt_stands_for_itself_any_plain_one_is_accepted() -> None:
    plain = ["a", "none", "x" * 10_000, "{a} # b: [c]"]
    assert are_plain_prompts(plain)
    models = [model for model in BUILT_IN.models() if "prompt" in model.free_inputs]
    assert len(models) > 1
    for model in models:
        assert list(map(model.validator("prompt"), plain)) == plain, model.name
