"""Fills in the text that describes a published picture, and tidies what blank values leave in it.

``{product}, {color}, studio light`` is "Shoe, studio light" where the table's colour is blank.
Signs go only where a value is blank; a text whose values are all there stays as its template has
it.
"""

import re
from collections.abc import Mapping
from itertools import chain

from flux_pipeline.prompts.templates import parse_template

_BLANK = "\0"
"""Stands for a blank value until the text around it is tidied; values can't have it."""
_SEPARATOR = r"(?:\s*[,;:|/·•–—、，；：]\s*|\s+-\s+)"  # noqa: RUF001 - signs of all scripts
_BRACKETS = [*zip('([（【「“"', ')]）】」”"', strict=True)]  # noqa: RUF001 - as above
_OPENING = re.escape("".join(one for one, _ in _BRACKETS))
_CLOSING = re.escape("".join(other for _, other in _BRACKETS))
_END = r"[.!?。！？]*$"  # noqa: RUF001 - as above
_TIDIED = [
    (re.compile(pattern.replace("_", _BLANK).replace("S", _SEPARATOR)), kept)
    for pattern, kept in chain(
        ((rf"{re.escape(one)}\s*_\s*{re.escape(other)}", _BLANK) for one, other in _BRACKETS),
        [
            (r"_\s*_", _BLANK),
            (r"(S)\s*_\s*S", r"\1"),
            (rf"(^|[{_OPENING}])\s*_\s*S", r"\1"),
            (rf"S\s*_(?=\s*(?:{_END}|[{_CLOSING}]))", ""),
        ],
    )
]
"""What goes with a blank value (``_``), and what stays: brackets around it, a second blank one, one
of two separators (``S``) at its sides, and the only one at either end of a text or of brackets."""


def fill_alt_text(template: str, values: Mapping[str, str]) -> str:
    """The text on one line, with every placeholder replaced; one that has no value is blank.

    Raises:
        ValueError: As ``parse_template``.
    """
    parsed = parse_template(template)
    used = {name: values.get(name, "").replace(_BLANK, "").strip() for name in parsed.names}
    text = " ".join(parsed.render({name: text or _BLANK for name, text in used.items()}).split())
    return " ".join(_tidied(text).split())


def _tidied(text: str) -> str:
    """The text without what stands for blank values, and without signs that only they needed."""
    before = ""
    while _BLANK in text and text != before:
        before = text
        for pattern, kept in _TIDIED:
            text = pattern.sub(kept, text)
    return text.replace(_BLANK, "")
