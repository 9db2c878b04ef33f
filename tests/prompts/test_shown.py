"""Values in messages are short, safe and without secrets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.prompts.shown import shown


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, "5"),
        ("5", "5"),
        ("-1.5", "-1.5"),
        ("two", '"two"'),
        ("", '""'),
        (True, "true"),
        (None, "null"),
        (0.5, "0.5"),
        (7.0, "7"),
        ({}, "a mapping"),
        ([], "a list"),
        (b"x", "a bytes"),
        ("a" * 100, '"' + "a" * 60 + '…"'),
        ("\x1b[31m\u202e", '"\\x1b[31m\\u202e"'),
        ("https://e.com/?token=abc", '"https://e.com/?token=REDACTED"'),
        ("r8_" + "a" * 30, '"REDACTED"'),
    ],
)
def test_is_shown(value: object, expected: str) -> None:
    assert shown(value) == expected


def test_a_number_that_python_refuses_to_print_is_described() -> None:
    assert shown(10**5_000) == "a number of more than 18 digits"


@given(st.text())
def test_any_text_is_printable_and_short(text: str) -> None:
    assert shown(text).isprintable()
    assert len(shown(text)) <= 63


@given(
    st.text(alphabet="xyz -", max_size=30),
    st.text(alphabet="abcdef0123456789", min_size=25, max_size=300),
)
def test_a_long_key_is_not_half_shown(before: str, key: str) -> None:
    assert key[:24] not in shown(f"{before} r8_{key}")
