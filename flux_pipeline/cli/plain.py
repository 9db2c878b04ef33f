"""Text that others wrote, made safe for a terminal: what it could act upon is spelled out."""

import sys
import unicodedata

_ACTING = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_HARMLESS = frozenset("\u200c\u200d\u200e\u200f")
"""Joiners, without which emoji and Persian fall apart, and marks of direction."""


def plain(text: object) -> str:
    """The text on one line; controls, escapes, bidirectional overrides and tags are spelled out."""
    return "".join(_spelled(char) for char in str(text))


def survive_any_encoding() -> None:
    """Let a terminal that is not UTF-8 show escapes instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")


def _spelled(char: str) -> str:
    if char in _HARMLESS or unicodedata.category(char) not in _ACTING:
        return char
    return char.encode("unicode_escape").decode()
