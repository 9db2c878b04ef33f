"""What is told: one alert about one thing, in words, with links. Pure, and without secrets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from flux_pipeline.models.redact import redact

_MOST_CHARACTERS = 300
"""Of one line."""
_MOST_LINES = 12


class Kind(StrEnum):
    """What an alert is about."""

    RUN_FAILED = "run_failed"
    BUDGET_REACHED = "budget_reached"
    OUT_OF_CREDIT = "out_of_credit"
    """The provider answered 402."""
    KEY_REFUSED = "key_refused"
    """The provider answered 401 or 403."""
    HELD = "held"
    """Requests that may have been paid wait for a person."""
    SCHEDULE_LATE = "schedule_late"
    TEST = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One message. Made by ``build_alert``, which takes secrets out of every text."""

    kind: Kind
    title: str
    """One line."""
    lines: Sequence[str] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    """Addresses of pages by what they show; the first is where to look first."""
    key: str = ""
    """The same thing has the same key, and is told once."""
    prompt_set: str = ""
    run_id: str = ""


def build_alert(
    kind: Kind,
    title: str,
    lines: Sequence[str] = (),
    *,
    links: Mapping[str, str] | None = None,
    key: str = "",
    prompt_set: str = "",
    run_id: str = "",
) -> Alert:
    """An alert in which no text holds a known secret, is endless, or hides characters."""
    shown = [plain for line in lines if (plain := plain_line(line))]
    if len(shown) > _MOST_LINES:
        shown = [*shown[:_MOST_LINES], f"and {len(shown) - _MOST_LINES} more lines"]
    return Alert(
        kind=kind,
        title=plain_line(title),
        lines=tuple(shown),
        links=dict(links or {}),
        key=key,
        prompt_set=prompt_set,
        run_id=run_id,
    )


def plain_line(text: str) -> str:
    """One visible line without known secrets, at most 300 characters."""
    line = " ".join(redact(text[: 20 * _MOST_CHARACTERS]).split())
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    return plain if len(plain) <= _MOST_CHARACTERS else f"{plain[: _MOST_CHARACTERS - 1]}…"
