"""The estimate of tokens is rough, and grows with the text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.models.base import estimate_tokens


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
def test_is_of_the_right_size(text: str, low: int, high: int) -> None:
    assert low <= estimate_tokens(text) <= high


@given(st.text(), st.text())
def test_more_text_never_has_fewer_tokens(first: str, second: str) -> None:
    assert estimate_tokens(f"{first} {second}") >= estimate_tokens(first)


@given(st.text())
def test_a_token_has_a_character_at_least(text: str) -> None:
    assert estimate_tokens(text) <= len(text)
