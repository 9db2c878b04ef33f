"""Text that people read is visible, short and without secrets."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.text import (
    count_noun,
    first_of,
    printable,
    quoted,
    safe_line,
    safe_text,
    shorten,
)


def test_one_is_singular_and_everything_else_is_not() -> None:
    assert [count_noun(number, "image") for number in (0, 1, 2, 1200)] == [
        "0 images",
        "1 image",
        "2 images",
        "1,200 images",
    ]
    assert [count_noun(number, "entry", "entries") for number in (1, 2)] == ["1 entry", "2 entries"]


def test_of_many_names_the_first_are_given_and_the_rest_is_counted() -> None:
    assert [first_of(list(names), 2) for names in ("", "a", "ab", "abcd")] == [
        "",
        "a",
        "a, b",
        "a, b and 2 more",
    ]


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
    assert quoted(value) == expected


def test_a_number_that_python_refuses_to_print_is_described() -> None:
    assert quoted(10**5_000) == "a number of more than 18 digits"


@given(st.text())
def test_any_text_is_printable_and_short(text: str) -> None:
    assert quoted(text).isprintable()
    assert len(quoted(text)) <= 63


@given(
    st.text(alphabet="xyz -", max_size=30),
    st.text(alphabet="abcdef0123456789", min_size=25, max_size=300),
)
def test_a_long_key_is_not_half_shown(before: str, key: str) -> None:
    assert key[:24] not in quoted(f"{before} r8_{key}")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b]0;title\x07", r"\x1b[31mred\x1b]0;title\x07"),
        ("one\ntwo\r\tthree", r"one\ntwo\r\tthree"),
        ("\u202eabc\u2066", r"\u202eabc\u2066"),
        ("\x9b31m", r"\x9b31m"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("城堡 قلعة 👨\u200d👩\u200d👧 é", "城堡 قلعة 👨\u200d👩\u200d👧 é"),
        (None, "None"),
        (7, "7"),
    ],
)
def test_what_a_terminal_would_act_upon_is_spelled_out(text: object, shown: str) -> None:
    assert printable(text) == shown


def test_a_long_line_is_cut_and_says_so() -> None:
    assert shorten("a  b\n c", 10) == "a b c"
    assert shorten("a" * 11, 10) == "a" * 9 + "…"


@pytest.mark.parametrize("safe", [safe_text, safe_line])
def test_text_shown_to_others_holds_no_secret_and_nothing_invisible(
    safe: Callable[..., str],
) -> None:
    text = safe("key r8_" + "Ab1" * 12 + " \u202e\x1b[31m castle\nsecond line", 40)

    assert "Ab1" not in text
    assert text.startswith("key REDACTED \\u202e\\x1b[31m")
    assert ("\n" in text) == (safe is safe_text)
    assert len(safe("a" * 500, 40)) <= 41
