"""Removes what must not be kept: keys, URL queries and users, data URIs, control characters.

What comes out may be logged, written to a database and shown. It is also what two inputs are
compared by, because a provider may show ours with its secrets blanked out. Every pattern takes
linear time on any input.
"""

import re
from collections.abc import Mapping
from typing import Any

MARK = "***"

_KEY = re.compile(r"\b(?:(?:r8|hf)_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{16,})")
_BEARER = re.compile(r"(?i)\b(bearer\s+)[^\s\"',;]+")
_URL = re.compile(r"(?i)(https?://)([^\s\"'<>]+)")
_DATA_URI = re.compile(r"(?i)data:[\w.+/;=-]{0,100},[A-Za-z0-9+/=%_-]*")
_UNSAFE = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 127, *range(0xD800, 0xE000)))
_LONG = 64


def redact_text(text: str, *secrets: str) -> str:
    """Return the text without keys, queries, data URIs, NUL and lone surrogates.

    ``secrets`` are removed to the letter, wherever they stand.
    """
    for secret in secrets:
        if secret:
            text = text.replace(secret, MARK)
    lower = text.lower()
    if "data:" in lower:
        text = _DATA_URI.sub(_cut_data, text)
    if "://" in text and ("?" in text or "@" in text):
        text = _URL.sub(_cut_url, text)
    if "bearer" in lower:
        text = _BEARER.sub(rf"\1{MARK}", text)
    if "r8_" in text or "hf_" in text or "sk-" in text:
        text = _KEY.sub(MARK, text)
    return text if text.isprintable() else text.translate(_UNSAFE)


def redact_json(value: Any, *secrets: str) -> Any:
    """Return a copy of a JSON value with every string redacted, the names of members too."""
    match value:
        case str():
            return redact_text(value, *secrets)
        case list():
            return [redact_json(each, *secrets) for each in value]
        case Mapping():
            return {
                redact_text(name, *secrets): redact_json(each, *secrets)
                for name, each in value.items()
            }
        case _:
            return value


def shorten(text: str, limit: int) -> str:
    """Return at most ``limit`` characters on one line; where the end is cut, a mark says so."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def _cut_data(match: re.Match[str]) -> str:
    uri = match.group()
    return uri if len(uri) <= _LONG else f"{uri[: uri.index(',')]},({len(uri)} characters)"


def _cut_url(match: re.Match[str]) -> str:
    rest, mark, query = match[2].partition("?")
    authority, slash, path = rest.partition("/")
    host = authority.rpartition("@")[2]
    query = MARK if query else ""
    return f"{match[1]}{host}{slash}{path}{mark}{query}"
