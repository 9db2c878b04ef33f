"""Values of environment variables: what tools and copying add is dropped, the rest is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.environment import (
    clean_name,
    clean_value,
    clean_variables,
    find_value_mistake,
    split_list,
)

TEXTS = st.text(alphabet="ab,# \t\r\n\"'\u201c\u201d\u00a0\ufeff\u200b")


@pytest.mark.parametrize(
    "text",
    [
        "abc\r",
        ' "abc" \r\n',
        "'abc'",
        "\ufeffabc",
        "\u00a0abc\u202f",
        "\u200babc",
        "\u201cabc\u201d",
        "\u2018abc\u2019",
        "\"'abc'\"",
        '\ufeff " abc\u00a0" ',
    ],
)
def test_what_is_around_a_value_is_dropped(text: str) -> None:
    assert clean_value(text) == "abc"


@pytest.mark.parametrize("text", ['"a","b"', "it's", "a b", 'a "b" c', "l\u00a0m"])
def test_what_is_inside_of_a_value_stays(text: str) -> None:
    assert clean_value(text) == text


@pytest.mark.parametrize("text", ["", '""', "''", ' "\u00a0" ', "\r", "\ufeff"])
def test_nothing_between_quotes_is_nothing(text: str) -> None:
    assert not clean_value(text)


@given(TEXTS)
def test_cleaning_twice_changes_nothing(text: str) -> None:
    assert clean_value(clean_value(text)) == clean_value(text)


@given(TEXTS)
def test_a_value_without_a_mistake_has_nothing_around_it(text: str) -> None:
    value = clean_value(text)
    if not find_value_mistake(value):
        assert all(
            part.strip(" \t\r\n\"'\u201c\u201d\u00a0\ufeff\u200b") == part
            for part in split_list(value)
        )
        assert not value.startswith("#")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ('"secret', "quote at one end"),
        ("secret'", "quote at one end"),
        ('""secret""', "quotes in quotes"),
        ('a,"secret', "quote at one end"),
        ("sec\rret", "a line end"),
        ("sec\nret", "a line end"),
        ("sec\ufeffret", "an invisible character"),
        ("secret # of mine", "a comment"),
        ("# secret", "a comment"),
    ],
)
def test_what_can_not_be_cleaned_is_a_mistake_that_shows_nothing(value: str, words: str) -> None:
    assert words in find_value_mistake(value)
    assert "sec" not in find_value_mistake(value)


@pytest.mark.parametrize(
    "value", ["", "abc", "a#b", '"a","b"', "o'neil", "l\u00a0m", "\U0001f469\u200d\U0001f4bb"]
)
def test_what_may_be_meant_is_no_mistake(value: str) -> None:
    assert not find_value_mistake(value)


def test_the_values_of_a_list_are_cleaned_each() -> None:
    assert split_list("\"a\", 'b' ,,\u00a0c\r") == ("a", "b", "", "c")


def test_variables_are_cleaned_where_they_are_and_others_left_alone() -> None:
    environ = {"FLUX_RATE": '"60"\r', "FLUX_STORE": "''", "AWS_PROFILE": " ", "OTHER": '"x"'}
    clean_variables(environ, ["FLUX_RATE", "FLUX_STORE", "AWS_PROFILE", "FLUX_LEDGER"])
    assert environ == {"FLUX_RATE": "60", "FLUX_STORE": "", "OTHER": '"x"'}


@pytest.mark.parametrize(
    "name", ["FLUX_RATE", "export FLUX_RATE", "\ufeffFLUX_RATE ", "'FLUX_RATE'"]
)
def test_a_name_is_known_by_what_is_left_of_it(name: str) -> None:
    assert clean_name(name) == "FLUX_RATE"
