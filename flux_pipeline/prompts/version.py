"""Reads a ``version:`` that overrides the one a model is pinned to."""

import re

_DIGITS = re.compile(r"[0-9a-f]{64}")


def checked_version(value: str, model_name: str) -> str:
    """The 64 hex digits of a version given alone or behind the model's name.

    Raises:
        ValueError: not 64 digits, or another model's.
    """
    name, colon, digits = value.rpartition(":")
    if colon and name != model_name:
        raise ValueError(f"is a version of another model than {model_name}")
    if "/" in digits:
        raise ValueError("names a model and no version: add a colon and its 64 hex digits")
    if not _DIGITS.fullmatch(digits):
        raise ValueError(
            f"a version is 64 hex digits (0-9, a-f), alone or behind {model_name}:, "
            f"not {len(digits)} characters"
        )
    return digits
