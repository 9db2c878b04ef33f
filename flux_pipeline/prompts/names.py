"""Names of prompt sets and prompts, and those that a table's rows and a matrix add.

They become asset names, partition keys and object keys, so they hold only what all of these accept:
``a-z``, ``0-9``, hyphen and underscore. A text with other letters gets eight hex digits of its
hash, so that two different keys never become one name.

Seeds and shards are drawn from names, and a picture with another seed is another picture, which is
paid. So what they are drawn from stays as it was in the first release (``stable``), while what
people read may become better (``readable``).
"""

import hashlib
import re
import unicodedata
from typing import NamedTuple

from anyascii import anyascii

MAX_NAME_CHARACTERS = 120
MAX_KEY_CHARACTERS = 60
"""Of a name that an author writes; the rest is left for what a table and a matrix add."""
_PROMPT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_SET_NAME = re.compile(r"[a-z0-9][a-z0-9_]*")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
"""Between the syllables of a transliteration: ``ChengBao``."""
_NOT_IN_SLUG = re.compile(r"[^a-z0-9]+")


def checked_set_name(stem: str) -> str:
    """The name of the prompt set in a file of this stem; a hyphen becomes an underscore.

    Raises:
        ValueError: Other characters than a-z, 0-9, hyphen and underscore; proposes a name.
    """
    name = stem.replace("-", "_")
    if _SET_NAME.fullmatch(name) and len(name) <= MAX_KEY_CHARACTERS:
        return name
    hint = proposed_name(stem).replace("-", "_")
    raise ValueError(
        f"the file's name names the prompt set and its assets: only a-z, 0-9, _ and - are "
        f"allowed, and a letter or digit first; rename it, perhaps to {hint}"
    )


def checked_prompt_name(key: str) -> str:
    """The key of a prompt, if it may be a name.

    Raises:
        ValueError: Other characters than a-z, 0-9, hyphen and underscore, or too many.
    """
    if _PROMPT_NAME.fullmatch(key) and len(key) <= MAX_KEY_CHARACTERS:
        return key
    raise ValueError(
        "a prompt's name is made of a-z, 0-9, _ and -, starts with a letter or digit and has at "
        f"most {MAX_KEY_CHARACTERS} characters; perhaps {proposed_name(key)}"
    )


def proposed_name(text: str) -> str:
    """A readable name for an author to take over: ``城堡`` gives ``cheng-bao``."""
    return slug(_transliterated(text))


class NamePart(NamedTuple):
    """A part of a name that a row or a value adds; where its letters are Latin, twice the same."""

    readable: str
    """Of ``城堡``: ``cheng-bao-f6f854a2``. The hash stays, so that homophones differ."""
    stable: str
    """Of ``城堡``: ``x-f6f854a2``. The same in every release (see ``slug``)."""


def name_part(text: str) -> NamePart:
    """What a text adds to a name."""
    if as_name_part(text):
        return NamePart(text, text)
    stable = slug(text)
    if text.isascii() or not stable.endswith(f"-{_digest(text)}"):
        return NamePart(stable, stable)
    words = _NOT_IN_SLUG.sub("-", _transliterated(text).lower()).strip("-")
    readable = f"{words[:MAX_KEY_CHARACTERS].strip('-') or 'x'}-{_digest(text)}"
    return NamePart(readable, stable)


as_name_part = re.compile(rf"(?=.{{1,{MAX_KEY_CHARACTERS}}}\Z)[a-z0-9]+(?:-[a-z0-9]+)*").fullmatch
"""Matches a text that is itself what it adds to a name. A function in between would double what a
large table's rows cost here."""


def _transliterated(text: str) -> str:
    return text if text.isascii() else _CAMEL.sub("-", anyascii(text))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def slug(text: str) -> str:
    """A part of a name made of any text: stable and never empty.

    ``Crème Brûlée 2`` gives ``creme-brulee-2``; ``红`` gives ``x-`` and eight hex digits. Seeds are
    drawn from it: another result would be another picture, paid again. The trap: ``AB-1`` and
    ``ab 1`` both give ``ab-1``; the caller has to find such duplicates.
    """
    if as_name_part(text):
        return text
    plain, is_lossy = text, False
    if not text.isascii():
        decomposed = unicodedata.normalize("NFKD", text)
        plain = "".join(char for char in decomposed if not unicodedata.combining(char))
        # A letter that has no ASCII form is lost below: the hash keeps the difference.
        is_lossy = any(char.isalnum() and not char.isascii() for char in plain)
    words = _NOT_IN_SLUG.sub("-", plain.lower()).strip("-")
    if is_lossy or not words or len(words) > MAX_KEY_CHARACTERS:
        return f"{words[:MAX_KEY_CHARACTERS].strip('-') or 'x'}-{_digest(text)}"
    return words


def join_name(*parts: str) -> str:
    """The parts joined with hyphens; a name that grows too long is cut and ends in its own hash."""
    name = "-".join(parts)
    if len(name) <= MAX_NAME_CHARACTERS:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{name[: MAX_NAME_CHARACTERS - 13].rstrip('-')}-{digest}"
