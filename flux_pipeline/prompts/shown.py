"""How a value from a file is shown in a message: short, without secrets, safe on a terminal."""

from flux_pipeline.models import redact

_MAX_CHARACTERS = 60
_MAX_READ = 10_000
_MAX_DIGITS = 18


def shown(value: object) -> str:
    """The value in a few visible characters.

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
        text = escaped(redact(value[:_MAX_READ]))
        text = text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}…"
        return text if _is_number(text) else f'"{text}"'
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, list | tuple) else f"a {type(value).__name__}"


def escaped(text: str) -> str:
    """The text with everything that can't be seen written as its code."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def _is_number(text: str) -> bool:
    digits = text.removeprefix("-").replace(".", "", 1)
    return digits.isascii() and digits.isdigit()
