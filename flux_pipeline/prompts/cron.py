"""Checks a cron line of five fields without a cron library: Dagster's own is not for us to import.

What passes here passes there; the rarer forms (``L``, ``#``, ``?``, six fields) are refused here.
"""

import re

_NICKNAMES = frozenset({"@hourly", "@daily", "@weekly", "@monthly", "@yearly"})
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 7, _DAYS),
)
_ITEM = re.compile(r"(?:\*|([a-z0-9]+)(?:-([a-z0-9]+))?)(?:/([0-9]{1,3}))?")
_LONGEST = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}


def checked_cron(line: str) -> str:
    """The line as given, if it is five valid fields or a nickname such as ``@daily``.

    Raises:
        ValueError: names the field and what is allowed in it.
    """
    if line in _NICKNAMES:
        return line
    fields = line.lower().split()
    if len(fields) != len(_FIELDS):
        raise ValueError(
            f"has {len(fields)} fields; a cron line has five (minute hour day month weekday), "
            'such as "0 6 * * *"'
        )
    values = [_values(text, *field) for text, field in zip(fields, _FIELDS, strict=True)]
    days, months = values[2], values[3]
    if all(min(days) > _LONGEST.get(month, 31) for month in months):
        raise ValueError(f"never happens: no such month has a day {min(days)}")
    return line


def _values(text: str, name: str, low: int, high: int, names: tuple[str, ...]) -> set[int]:
    values: set[int] = set()
    for item in text.split(","):
        found = _ITEM.fullmatch(item)
        if found is None:
            raise ValueError(f"{name}: {item[:20]} is not allowed ({low} to {high}, *, a-b, */n)")
        first, last, step = found[1], found[2], int(found[3] or 1)
        start = low if first is None else _number(first, name, low, high, names)
        open_end = first is None or (last is None and found[3] is not None)
        end = high if open_end else _number(last or first, name, low, high, names)
        if end < start or step < 1:
            raise ValueError(f"{name}: {item[:20]} is not allowed: it ends before it starts")
        values.update(range(start, end + 1, step))
    return values


def _number(text: str, name: str, low: int, high: int, names: tuple[str, ...]) -> int:
    if text in names:
        return names.index(text) + low
    if text.isdigit() and low <= int(text) <= high:
        return int(text)
    raise ValueError(f"{name}: {text[:20]} is not allowed ({low} to {high})")
