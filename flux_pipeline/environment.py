"""Cleans environment variables of what files and copying add: blanks, line ends, quotes, comments.

Tools read a ``.env`` file differently: some pass on quotes, the CR of a Windows line end, a byte
order mark, ``export`` before the name, or the comment behind the value. So every setting is cleaned
by ``clean_value``, and what can't be cleaned without a guess is refused by ``find_value_mistake``.
No message holds a character of a value, which may be a secret.
"""

import re
import unicodedata
from collections.abc import Collection, MutableMapping

_INVISIBLE = "\ufeff\u200b\u200c\u200d\u200e\u200f\u2060\xad\0"
"""Characters without a width, which Python doesn't count as blanks."""
_QUOTES = {'"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019"}
"""Closing quotes by their opening ones; the last two are what word processors make."""
_MARKS = frozenset({*_QUOTES, *_QUOTES.values()})
_HIDDEN = frozenset({"Cc", "Zl", "Zp"})
"""Unicode categories of line ends and control characters."""
_COMMENT = re.compile(r"(?:^|\s)#")
_EXPORT = re.compile(r"export\s+")


def clean_value(text: str) -> str:
    """A value without blanks (any of Unicode's) and pairs of quotes around it.

    Cleaning twice changes nothing, so that a process and its children read the same. Quotes are
    dropped only where the first is closed by the last: ``"a","b"`` stays.
    """
    while True:
        bare = text.strip().strip(_INVISIBLE)
        closing = _QUOTES.get(bare[:1])
        if closing is not None and bare.find(closing, 1) == len(bare) - 1 > 0:
            bare = bare[1:-1]
        if bare == text:
            return text
        text = bare


def split_list(text: str) -> tuple[str, ...]:
    """The values of a list with commas, each cleaned; empty ones stay."""
    return tuple(clean_value(part) for part in text.split(","))


def find_value_mistake(text: str) -> str:
    """Why a cleaned value, or one of a list, can't be meant as it is; empty where it can."""
    parts = [part for part in split_list(text) if part]
    if any(part[0] in _MARKS or part[-1] in _MARKS for part in parts):
        return "has a quote at one end alone, or quotes in quotes: write the value without quotes"
    if any(_is_hidden(char) for part in parts for char in part):
        return "holds a line end or an invisible character: type it anew, on one line"
    if any(_COMMENT.search(part) for part in parts):
        return "seems to hold a comment, a # behind a blank: write that on a line of its own"
    return ""


def _is_hidden(char: str) -> bool:
    # Not the joiners: emoji and Persian fall apart without them.
    return unicodedata.category(char) in _HIDDEN or char in "\ufeff\u200b\u2060"


def clean_variables(environ: MutableMapping[str, str], names: Collection[str]) -> None:
    """Clean the variables of these names where they are, for whoever reads them there.

    Those for AWS are removed where nothing is left of them: otherwise boto3 looks for a profile
    without a name.
    """
    for name in names:
        if name not in environ:
            continue
        value = clean_value(environ[name])
        if not value and name.startswith("AWS_"):
            del environ[name]
        elif value != environ[name]:
            environ[name] = value


def clean_name(name: str) -> str:
    """The name of a variable without blanks, quotes and ``export`` around it."""
    return clean_value(_EXPORT.sub("", clean_value(name), count=1))
