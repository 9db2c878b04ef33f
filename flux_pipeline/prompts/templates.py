"""Expands templates: ``{name}`` is replaced by its value, ``{{`` and ``}}`` stand for braces.

Not ``str.format``, which would read attributes (``{a.__class__}``). A text is parsed once and the
values put into it are never parsed, so that a table may hold any braces.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_NAME = re.compile(r"[^\W_]\w*(?:[ -]\w+)*")


@dataclass(frozen=True, slots=True)
class Template:
    """A text with placeholders, parsed."""

    parts: tuple[tuple[str, str | None], ...]
    """Pairs of literal text and the placeholder after it; None after the last literal."""
    _form: str = field(init=False, repr=False, compare=False)
    """The text as the operator ``%`` takes it, which fills in everything at once."""

    def __post_init__(self) -> None:
        form = "".join(
            literal.replace("%", "%%") + ("" if name is None else f"%({name})s")
            for literal, name in self.parts
        )
        object.__setattr__(self, "_form", form)  # the class is frozen

    @property
    def names(self) -> frozenset[str]:
        """The placeholders."""
        return frozenset(name for _, name in self.parts if name is not None)

    def render(self, values: Mapping[str, str]) -> str:
        """The text with every placeholder replaced by its value, unchanged."""
        return self._form % values


@dataclass(frozen=True, slots=True)
class TemplateList:
    """A list of texts, some of them with placeholders, parsed."""

    templates: tuple[Template, ...]

    @property
    def names(self) -> frozenset[str]:
        """The placeholders of all of them."""
        return frozenset[str]().union(*(each.names for each in self.templates))

    def render(self, values: Mapping[str, str]) -> list[str]:
        """The texts with every placeholder replaced by its value."""
        return [each.render(values) for each in self.templates]


def parse_templates(value: str | list[str]) -> Template | TemplateList:
    """Parse a text, or a list of them.

    Raises:
        ValueError: As ``parse_template``.
    """
    if isinstance(value, str):
        return parse_template(value)
    return TemplateList(tuple(map(parse_template, value)))


def parse_template(text: str) -> Template:
    """Parse a text.

    Raises:
        ValueError: A lone brace, or a placeholder that is no plain name; says what to write.
    """
    parts: list[tuple[str, str | None]] = []
    literal, end = "", 0
    for token in _TOKEN.finditer(text):
        literal += text[end : token.start()]
        end = token.end()
        name = token[1]
        if token[0] in {"{{", "}}"}:
            literal += token[0][0]
        elif name is None:
            brace, position = token[0], token.start() + 1
            message = f"a lone {brace} at character {position}: write {brace * 2} for a brace"
            raise ValueError(message)
        elif not is_placeholder_name(name):
            raise ValueError(_describe_bad_name(name, token.start() + 1))
        else:
            parts.append((literal, name))
            literal = ""
    parts.append((literal + text[end:], None))
    return Template(tuple(parts))


def has_braces(value: Any) -> bool:
    """Whether a value is a text, or a list of texts, that has to be parsed as a template."""
    if isinstance(value, str):
        return "{" in value or "}" in value
    is_texts = isinstance(value, list) and all(isinstance(each, str) for each in value)
    return is_texts and any(map(has_braces, value))


def is_placeholder_name(name: str) -> bool:
    """Whether a matrix variable or a table's column of this name can stand in a placeholder."""
    return _NAME.fullmatch(name) is not None


def _describe_bad_name(name: str, position: int) -> str:
    what = f"{{{name[:40]}}} at character {position} is no placeholder"
    if re.search(r"[.\[\]!:]|__", name):
        return f"{what}: a plain name is allowed, no attribute, index or format"
    return f"{what}: write {{{{ and }}}} for braces that shall stay"
