"""How long a refusal asks us to wait, in the four forms that providers use.

In order: the ``Retry-After`` header (seconds or a date), ``retry_after`` in the body, "resets in
~30s" in its ``detail``, the ``ratelimit-reset`` header (seconds, or a unix time).
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

LONGEST_WAIT = 60.0
"""s; a provider that asks for a day is asked again after a minute."""

_RESETS_IN = re.compile(r"(?i)resets in ~?\s{0,3}(\d{1,9}(?:\.\d{1,9})?)\s{0,3}(ms|m|s)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}
_EPOCH = 1e9  # a ratelimit-reset above this is a moment, below it a duration


def retry_after(headers: Mapping[str, str], body: Any, *, now: float) -> float:
    """Seconds to wait, 0 to 60; 0 where nothing is said. ``now`` is unix seconds by our clock.

    A date is read against the reply's own ``Date`` where there is one, so that a wrong clock on
    either side does not matter.
    """
    fields: Mapping[str, Any] = body if isinstance(body, Mapping) else {}
    hints = (
        _from_header(headers.get("retry-after"), headers.get("date"), now),
        _number(fields.get("retry_after")),
        _from_text(fields.get("detail")),
        _from_reset(headers.get("ratelimit-reset"), now),
    )
    for hint in hints:
        if hint is not None:
            return min(max(hint, 0.0), LONGEST_WAIT)
    return 0.0


def unix_time(date: str | None) -> float | None:
    """Unix seconds of an HTTP date, or None where it is none."""
    try:
        moment = parsedate_to_datetime(date or "")
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _from_header(text: str | None, date: str | None, now: float) -> float | None:
    seconds = _number(text)
    if seconds is not None or text is None:
        return seconds
    moment = unix_time(text)
    if moment is None:
        return None
    reference = unix_time(date)
    return moment - (now if reference is None else reference)


def _from_text(detail: object) -> float | None:
    found = _RESETS_IN.search(detail[:2000]) if isinstance(detail, str) else None
    return float(found[1]) * _UNITS[(found[2] or "s").lower()] if found else None


def _from_reset(text: str | None, now: float) -> float | None:
    seconds = _number(text)
    return seconds - now if seconds is not None and seconds > _EPOCH else seconds


def _number(value: object) -> float | None:
    """Return a finite number of seconds, from JSON or from a header."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
