"""Field types that models and prompt sets share: strict, and readable from a file's text.

YAML and tables give text, so ``"3"`` is a number here; what text only resembles (``010``,
``1e400``, ``.nan``, ``true`` for a number) is refused where other readers guess.
"""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

MAX_PROMPT_CHARACTERS = 10_000
"""Twenty times what the text encoders read, and small enough for every log and record."""

_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(
    r"-?(?:(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:e-?[0-9]{1,2})?"
)
_SWITCHES = {"true": True, "false": False}
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


def _whole_from_text(value: Any) -> Any:
    return int(value) if isinstance(value, str) and _WHOLE.fullmatch(value) else value


def _number_from_text(value: Any) -> Any:
    return float(value) if isinstance(value, str) and _DECIMAL.fullmatch(value.lower()) else value


def _switch_from_text(value: Any) -> Any:
    return _SWITCHES.get(value, value) if isinstance(value, str) else value


def _without_controls(value: Any) -> Any:
    # Before pydantic's own check, which refuses a lone surrogate without saying where it stands.
    if not isinstance(value, str) or (value.isascii() and value.isprintable()):
        return value
    found = _FORBIDDEN.search(value)
    if found is None:
        return value
    code, where = ord(found[0]), f"at character {found.start() + 1}"
    if code >= 0xD800:  # noqa: PLR2004 -- the first surrogate
        raise ValueError(
            f"holds half a character (a lone surrogate, \\u{code:04x}) {where}: no encoder takes it"
        )
    name = "a NUL" if code == 0 else f"the control character \\x{code:02x}"
    raise ValueError(f"holds {name} {where}; of those only line feed and tab are allowed")


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty" if not value else "is blank: nothing but white space")
    if len(value) > MAX_PROMPT_CHARACTERS:
        raise ValueError(f"has {len(value):,} characters; at most {MAX_PROMPT_CHARACTERS:,}")
    return value


WholeNumber = Annotated[int, BeforeValidator(_whole_from_text), Field(strict=True)]
"""An int, or its decimal text; never a bool, a float or text with leading zeros."""

Number = Annotated[
    float, BeforeValidator(_number_from_text), Field(strict=True, allow_inf_nan=False)
]
"""A finite float or int, or its decimal text; never a bool."""

Switch = Annotated[bool, BeforeValidator(_switch_from_text), Field(strict=True)]
"""True or False, or the words ``true`` and ``false``; not ``yes``, ``on`` or 1."""

Text = Annotated[str, BeforeValidator(_without_controls), Field(strict=True)]
"""Text that can be sent and stored: no lone surrogate, no control character but \\n and \\t."""

PromptText = Annotated[Text, AfterValidator(_not_blank)]
"""Text that says something: not blank, at most ``MAX_PROMPT_CHARACTERS``."""
