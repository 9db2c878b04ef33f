"""Placeholders are replaced by their values, once, and nothing else happens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.prompts.templates import parse_template


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a {x} b", "a 1 b"),
        ("{x}{y}{x}", "12" + "1"),
        ("{{x}} {x}", "{x} 1"),
        ("{{{x}}}", "{1}"),
        ("}}{{", "}{"),
        ("{Product name}, {sku-2}, {名称}", "3, 4, 5"),
        ("no placeholders", "no placeholders"),
        ("", ""),
    ],
)
def test_placeholders_are_replaced(text: str, expected: str) -> None:
    values = {"x": "1", "y": "2", "Product name": "3", "sku-2": "4", "名称": "5"}
    assert parse_template(text).render(values) == expected


@pytest.mark.parametrize(
    "text",
    [
        "{a.__class__}",
        "{a.b}",
        "{a[0]}",
        "{a!r}",
        "{a:>10}",
        "{__class__}",
        "{a.__init__.__globals__[x]}",
    ],
)
def test_attributes_indexes_and_formats_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no attribute, index or format"):
        parse_template(text)


@pytest.mark.parametrize("text", ["{", "a } b", "{a", "{{a}", "{a}}", "{a{b}}"])
def test_a_lone_brace_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(ValueError, match=r"a lone [{}] at character \d+: write"):
        parse_template(text)


@pytest.mark.parametrize("text", ["{}", "{ }", "{a|b}", "{2$$x|y}", "{a,b}", "{ a}"])
def test_other_names_are_refused_with_the_way_to_write_a_brace(text: str) -> None:
    with pytest.raises(ValueError, match=r"write {{ and }} for braces"):
        parse_template(text)


@given(st.text(), st.text(), st.text())
def test_a_value_is_never_parsed(before: str, value: str, after: str) -> None:
    def literal(text: str) -> str:
        return text.replace("{", "{{").replace("}", "}}")

    template = parse_template(literal(before) + "{x}" + literal(after))
    assert template.names == {"x"}
    assert template.render({"x": value, "y": "never"}) == before + value + after


@given(st.text(alphabet="{}ab.", max_size=20))
def test_any_text_is_a_template_or_refused(text: str) -> None:
    try:
        template = parse_template(text)
    except ValueError:
        return
    assert isinstance(template.render(dict.fromkeys(template.names, "v")), str)
