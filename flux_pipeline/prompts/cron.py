"""Checks cron lines of five fields without a cron library, which would be one more dependency.

Dagster accepts every line that passes here; the rarer forms (``L``, ``#``, ``?``, six fields) are
refused.
"""

import re
from functools import lru_cache

_NICKNAMES = frozenset({"@hourly", "@daily", "@weekly", "@monthly", "@yearly"})
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 7, _WEEKDAYS),
)
"""Name, lowest and highest number, and the words that may stand for the numbers."""
_ITEM = re.compile(r"(?:\*|([a-z0-9]+)(?:-([a-z0-9]+))?)(?:/([0-9]{1,3}))?")
_DAYS_IN_MONTH = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}
"""31 in all others."""


@lru_cache(maxsize=100)
def checked_cron(line: str) -> str:
    """The line as given, if it is five valid fields or a nickname such as ``@daily``.

    Raises:
        ValueError: Names the field and what is allowed in it.
    """
    if line in _NICKNAMES:
        return line
    fields = line.lower().split()
    if len(fields) != len(_FIELDS):
        raise ValueError(
            f"has {len(fields)} fields; a cron line has five (minute hour day month weekday), "
            'such as "0 6 * * *"'
        )
    values = [_parse_field(text, *field) for text, field in zip(fields, _FIELDS, strict=True)]
    days, months = values[2], values[3]
    if all(min(days) > _DAYS_IN_MONTH.get(month, 31) for month in months):
        raise ValueError(f"never happens: no such month has a day {min(days)}")
    return line


def _parse_field(text: str, name: str, low: int, high: int, names: tuple[str, ...]) -> set[int]:
    values: set[int] = set()
    for item in text.split(","):
        found = _ITEM.fullmatch(item)
        if found is None:
            raise ValueError(f"{name}: {item[:20]} is not allowed ({low} to {high}, *, a-b, */n)")
        first, last, step = found[1], found[2], int(found[3] or 1)
        start = low if first is None else _parse_number(first, name, low, high, names)
        open_end = first is None or (last is None and found[3] is not None)
        end = high if open_end else _parse_number(last or first, name, low, high, names)
        if end < start or step < 1:
            raise ValueError(f"{name}: {item[:20]} is not allowed: it ends before it starts")
        values.update(range(start, end + 1, step))
    return values


def _parse_number(text: str, name: str, low: int, high: int, names: tuple[str, ...]) -> int:
    if text in names:
        return names.index(text) + low
    if text.isdigit() and low <= int(text) <= high:
        return int(text)
    raise ValueError(f"{name}: {text[:20]} is not allowed ({low} to {high})")
