"""What an error reply says: its text for a person, and the HTTP code that it really means."""

from collections.abc import Iterator, Mapping
from typing import Any

from flux_pipeline.redaction import redact_untrusted
from flux_pipeline.text import shorten

_LONGEST = 300
_DENIED = 401
_NO_CREDIT = 402
_THROTTLED = 429
_WORDS = {
    "authentication_error": _DENIED,
    "invalid_api_key": _DENIED,
    "invalid_token": _DENIED,
    "insufficient_credit": _NO_CREDIT,
    "insufficient_quota": _NO_CREDIT,
    "insufficient_user_quota": _NO_CREDIT,
    "pre_consume_token_quota_failed": _NO_CREDIT,
    "rate_limit_error": _THROTTLED,
    "rate_limit_exceeded": _THROTTLED,
    "too_many_requests": _THROTTLED,
}


def error_text(body: Any, *secrets: str) -> str:
    """What the error object says, redacted, on one line of at most 300 characters; may be empty.

    Reads ``{title, detail, status}``, ``{detail: [{loc, msg}]}``, ``{error: {message, …}}``,
    ``{error: "…"}``, ``{message}`` and ``invalid_fields``.
    """
    return shorten(redact_untrusted("; ".join(filter(None, _parts(body))), *secrets), _LONGEST)


def error_code(body: Mapping[str, Any], status: int) -> int:
    """The HTTP code that an error object under ``status`` stands for.

    Aggregators pass an upstream's error on under HTTP 200: there the object's own code counts, as
    a number or as one of the known words. ``status`` where it says nothing.
    """
    error = body.get("error")
    if not isinstance(error, Mapping):
        return status
    for name in ("code", "status", "type"):
        value = error.get(name)
        if isinstance(value, str):
            value = _WORDS.get(value.lower(), int(value) if value.isdecimal() else None)
        if isinstance(value, int) and 400 <= value <= 599:  # noqa: PLR2004
            return value
    return status


def _parts(body: Any) -> Iterator[str]:
    if isinstance(body, str):
        yield body
    if not isinstance(body, Mapping):
        return
    error = body.get("error")
    yield from _parts(error)
    detail = body.get("detail")
    for text in (body.get("title"), detail, body.get("message")):
        if isinstance(text, str) and text:
            yield text
    for problems in (detail, body.get("invalid_fields")):
        if isinstance(problems, list):
            yield from (_field_problem(each) for each in problems[:20] if isinstance(each, Mapping))


def _field_problem(problem: Mapping[str, Any]) -> str:
    """One problem of one field, such as ``input.num_outputs: must be at most 4``."""
    where = problem.get("loc") or problem.get("field") or ""
    place = ".".join(map(str, where)) if isinstance(where, list) else str(where)
    what = problem.get("msg") or problem.get("description") or problem.get("type") or ""
    return f"{place}: {what}" if place else str(what)
