"""Placeholders: ``{name}`` is replaced, ``{{`` and ``}}`` are braces, and nothing else happens.

Not ``str.format``, which reads attributes (``{a.__class__}``). A text is taken apart once; what is
put in is never looked at again, so that a table may hold any braces it likes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_NAME = re.compile(r"[^\W_]\w*(?:[ -]\w+)*")


@dataclass(frozen=True, slots=True)
class Template:
    """A text with placeholders, taken apart."""

    parts: tuple[tuple[str, str | None], ...]
    """Pairs of literal text and the placeholder behind it; None behind the last literal."""

    @property
    def names(self) -> frozenset[str]:
        """The placeholders."""
        return frozenset(name for _, name in self.parts if name is not None)

    def render(self, values: Mapping[str, str]) -> str:
        """The text with every placeholder replaced by its value, to the letter."""
        return "".join(
            literal if name is None else literal + values[name] for literal, name in self.parts
        )


def parse_template(text: str) -> Template:
    """Take a text apart.

    Raises:
        ValueError: a lone brace, or a placeholder that is no plain name; says what to write.
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
            brace, where = token[0], token.start() + 1
            raise ValueError(f"a lone {brace} at character {where}: write {brace * 2} for a brace")
        elif not _NAME.fullmatch(name):
            raise ValueError(_why_no_name(name, token.start() + 1))
        else:
            parts.append((literal, name))
            literal = ""
    parts.append((literal + text[end:], None))
    return Template(tuple(parts))


def _why_no_name(name: str, where: int) -> str:
    what = f"{{{name[:40]}}} at character {where} is no placeholder"
    if re.search(r"[.\[\]!:]|__", name):
        return f"{what}: a plain name is allowed, no attribute, index or format"
    return f"{what}: write {{{{ and }}}} for braces that shall stay"


def is_placeholder_name(name: str) -> bool:
    """Whether a matrix variable or a column of this name can be put into a text."""
    return _NAME.fullmatch(name) is not None
