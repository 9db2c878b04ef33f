"""Formats text for people: counts with nouns, quoted values, and text that can't harm a terminal.

Text from files, providers and other people may hold secrets, terminal escapes and characters that
reorder what is shown. ``quoted`` is for one value in a message; ``safe_text`` and ``safe_line`` are
for longer texts that others read; ``printable`` is for a terminal, and redacts nothing.
"""

import unicodedata
from collections.abc import Sequence

from flux_pipeline.redaction import redact

_MAX_QUOTED = 60
_MAX_REDACTED = 10_000
"""Characters that are searched for secrets: of more than this, ``quoted`` shows nothing."""
_MAX_DIGITS = 18
_ESCAPED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Unicode categories that a terminal acts upon, or that hide or turn text."""
_KEPT = frozenset("\u200c\u200d\u200e\u200f")
"""Joiners, without which emoji and Persian fall apart, and marks of direction."""


def count_noun(number: int, noun: str, plural: str = "") -> str:
    """Return ``1 image`` or ``1,200 images``; ``plural`` where an s does not make it."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def show_usd(amount: float, *, emulated: bool = False) -> str:
    """Return ``0.2400 USD``, or ``0.2400 USD (emulated)`` where nobody is paid anything."""
    return f"{amount:.4f} USD{' (emulated)' if emulated else ''}"


def usd_heading(*, emulated: bool = False) -> str:
    """The heading of a column of USD."""
    return f"USD{' (emulated)' if emulated else ''}"


def quoted(value: object) -> str:
    """A value from a file, shortened to visible characters for a message about it.

    Numbers stand bare, text in double quotes. Secrets are redacted; control characters, ANSI
    escapes and characters that turn or hide text are escaped.
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        # str() of an int of more than 4,300 digits is an error in Python.
        return str(value) if abs(value) < 10**_MAX_DIGITS else "a number of more than 18 digits"
    if isinstance(value, float):
        return str(value).removesuffix(".0")
    if isinstance(value, str):
        # Redacted before it is shortened: half a key would not be recognised.
        text = escaped(redact(value[:_MAX_REDACTED]))
        text = text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}…"
        return text if _is_number(text) else f'"{text}"'
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, list | tuple) else f"a {type(value).__name__}"


def safe_text(text: str, limit: int = 1_000) -> str:
    """A text for others to read: secrets redacted, invisible characters escaped, cut to a limit."""
    visible = "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode()
        for char in redact(text[: 20 * limit])
    )
    return visible if len(visible) <= limit else f"{visible[:limit]}…"


def safe_line(text: str, limit: int = 300) -> str:
    """As ``safe_text``, on one line."""
    return shorten(escaped(" ".join(redact(text[: 20 * limit]).split())), limit)


def printable(text: object) -> str:
    """The text on one line for a terminal, its control and bidirectional characters escaped.

    Unlike ``escaped`` it keeps the joiners that emoji and some scripts need. It redacts nothing.
    """
    return "".join(_escaped_control(char) for char in str(text))


def escaped(text: str) -> str:
    """The text with every invisible character written as its code, joiners too."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def shorten(text: str, limit: int) -> str:
    """The text on one line of at most ``limit`` characters; it ends in … where it was cut."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def first_of(names: Sequence[str], limit: int) -> str:
    """The first ``limit`` names with commas, and how many more there are: ``a, b and 3 more``."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{', '.join(names[:limit])}{more}"


def _escaped_control(char: str) -> str:
    if char in _KEPT or unicodedata.category(char) not in _ESCAPED_CATEGORIES:
        return char
    return char.encode("unicode_escape").decode()


def _is_number(text: str) -> bool:
    digits = text.removeprefix("-").replace(".", "", 1)
    return digits.isascii() and digits.isdigit()
