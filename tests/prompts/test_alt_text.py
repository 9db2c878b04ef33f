"""A blank cell takes the sign beside it along; a text without one is as its template has it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.prompts.alt_text import fill_alt_text


@pytest.mark.parametrize(
    ("template", "values", "expected"),
    [
        ("{a}, {b}, studio light", "Shoe|", "Shoe, studio light"),
        ("{a}, {b}, studio light", "|red", "red, studio light"),
        ("{a}, {b}, studio light", "|", "studio light"),
        ("{a}: {b}, studio light", "Lampe|", "Lampe: studio light"),
        ("{a}, {b}.", "Shoe|", "Shoe."),
        ("{a} ({b})", "Shoe| ", "Shoe"),
        ("{a} ({b}, red)", "Shoe|", "Shoe (red)"),
        ("{a} (red, {b})", "Shoe|", "Shoe (red)"),
        ("{a} - {b}", "T-shirt|", "T-shirt"),
        ("{a}-{b}", "T|", "T-"),
        ("a {a} {b} shoe", "|", "a shoe"),
        ("{a}，{b}，影棚灯光", "鞋|", "鞋，影棚灯光"),
        ("{a}（{b}）", "鞋|", "鞋"),
        ("{a}, {b}", "Shoe,, red|new", "Shoe,, red, new"),
        ("{a}{b}", "|", ""),
        ("{a}, {b} {{x}}", "\0|y", "y {x}"),
    ],
)
def test_a_blank_value_leaves_no_sign_alone(template: str, values: str, expected: str) -> None:
    one, other = values.split("|")
    assert fill_alt_text(template, {"a": one, "b": other}) == expected


@given(st.text(st.sampled_from('x ,;:-()"“”.，'), max_size=12))
def test_a_text_without_blank_values_is_left_as_it_is(literal: str) -> None:
    filled = fill_alt_text(f"{literal}{{a}}{literal}", {"a": "shoe"})
    assert filled == " ".join(f"{literal}shoe{literal}".split())
