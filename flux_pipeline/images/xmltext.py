"""Any text as characters that every XML 1.0 parser gives back unchanged.

XML can't hold most control characters, even escaped, and parsers change line ends. Text that is
safe is written as it is; other text as a JSON string in quotes, which holds everything.
"""

import json
import re

from flux_pipeline.request import JsonValue

_UNSAFE_ANYWHERE = "\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff"
_UNSAFE = re.compile(f"[{_UNSAFE_ANYWHERE}]")
_SORTED, _AS_IS = (
    json.JSONEncoder(
        ensure_ascii=False, allow_nan=False, sort_keys=sort_keys, separators=(",", ":")
    )
    for sort_keys in (True, False)
)


def escape(text: str) -> str:
    """The text with ``&``, ``<`` and ``>`` made harmless."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def json_text(value: JsonValue, *, sort_keys: bool = True) -> str:
    """Compact JSON, in which unsafe characters are escaped as in ASCII JSON.

    Raises ValueError for a number that JSON doesn't have.
    """
    text = (_SORTED if sort_keys else _AS_IS).encode(value)
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def to_xml(text: str) -> str:
    """``text`` for the content of an element."""
    safe = not _UNSAFE.search(text) and not text.startswith('"') and text == text.strip()
    return escape(text if safe else json_text(text))


def from_xml(content: str) -> str:
    """What ``to_xml`` was given, from the content as a parser returns it."""
    if not content.startswith('"'):
        return content
    try:
        text = json.loads(content)
    except (ValueError, RecursionError):
        return content
    return text if isinstance(text, str) else content
