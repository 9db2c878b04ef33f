"""Classifies the provider's answers: for a create, whether it may have been paid for.

A create is proven unpaid only by an error before the connection was ready and by the codes in
``REFUSED_INPUT``, ``REJECTIONS`` and ``DENIALS``, as a status or in an error object. Every answer
that is neither of those nor a prediction makes it Ambiguous, and an ambiguous create must not be
sent again before it is settled.

Below the classifier: the text and the code of an error reply, and how long a 429 asks to wait.
"""

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, TypeAlias

import httpx

from flux_pipeline.outcomes import (
    Accepted,
    AccessDenied,
    Ambiguous,
    CreateOutcome,
    Gone,
    ModelFailed,
    ModelOutcome,
    NeverSent,
    NoModel,
    Polled,
    PollFailed,
    PollOutcome,
    Refused,
    Rejected,
    Stopped,
    Throttled,
)
from flux_pipeline.prediction import Prediction
from flux_pipeline.provider.http import Reply, load_object
from flux_pipeline.provider.parse import parse_prediction
from flux_pipeline.provider.transport import NEVER_SENT, ProxyRefused
from flux_pipeline.redaction import redact_untrusted
from flux_pipeline.text import shorten

Answer: TypeAlias = Reply | httpx.HTTPError
REFUSED_INPUT = 422
"""The one code that is about the input, unless the reply names something else."""
_WRONG_ADDRESS = frozenset({301, 307, 308, 404, 405, 410, 421})
_TOO_LARGE = frozenset({413, 414, 431})
REJECTIONS = _WRONG_ADDRESS | _TOO_LARGE | {400, 406, 407, 411, 415, 417, 426, 451}
"""Codes that prove that no prediction was created, and are about the call: its address or form.

Among the redirects are those that ask for the same POST at another address; 302 and 303 may also
follow one that was accepted.
"""
DENIALS = frozenset({401, 402, 403})
"""Those of them that are about the key or the account: every other request gets them too."""
THROTTLED = 429
LONGEST_WAIT = 60.0
"""s; a provider that asks for a day is asked again after a minute."""
_FIRST_REDIRECT, _PROXY_DENIED = 300, 407
_UNAUTHORIZED, _PAYMENT_REQUIRED = 401, 402
_GONE = frozenset({404, 410})
_NO_MODEL = _GONE | {405, 501}
_MAX_ERROR_TEXT = 300
_CODES_BY_NAME = {
    "authentication_error": _UNAUTHORIZED,
    "invalid_api_key": _UNAUTHORIZED,
    "invalid_token": _UNAUTHORIZED,
    "insufficient_credit": _PAYMENT_REQUIRED,
    "insufficient_quota": _PAYMENT_REQUIRED,
    "insufficient_user_quota": _PAYMENT_REQUIRED,
    "pre_consume_token_quota_failed": _PAYMENT_REQUIRED,
    "rate_limit_error": THROTTLED,
    "rate_limit_exceeded": THROTTLED,
    "too_many_requests": THROTTLED,
}
"""Error names of aggregators, and the HTTP codes that they stand for."""
_UPSTREAM = re.compile(
    r"(?i)time[sd]?[ _-]?out|upstream|gateway|server[ _]error|internal|bad[ _]response|overload"
    r"|unavailable|do_request|disconnect|connection|reset by|eof\b"
)
"""In an error without a code: it comes from behind the API, where the create may have arrived."""
_WRONG_VERSION = re.compile(
    r"(?i)\b(?:invalid|unknown|specified|disabled|no such) version\b"
    r"|\bversion (?:is )?(?:not|does|invalid|unknown|disabled)"
)
_RESETS_IN = re.compile(r"(?i)resets in ~?\s{0,3}(\d{1,9}(?:\.\d{1,9})?)\s{0,3}(ms|m|s)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}
_EPOCH = 1e9  # a ratelimit-reset above this is a moment, below it a duration


class ResponseClassifier:
    """Classifies the answers of one host. ``secrets``, which may grow, are redacted everywhere."""

    def __init__(self, host: str, secrets: Collection[str], clock: Callable[[], float]) -> None:
        self._host = host
        self._secrets = secrets
        self._clock = clock

    def create(
        self, answer: Answer, *, seed: int | None = None, seed_input: str = "seed"
    ) -> CreateOutcome:
        """Classify the answer to a create, by whichever of its routes it was sent.

        ``seed`` is the one that was sent, as the input ``seed_input``: a reply that shows another
        seed is another request's.
        """
        if isinstance(answer, ProxyRefused):
            return Stopped("proxy", self._message(f"{answer}; nothing was sent"))
        if isinstance(answer, NEVER_SENT):
            return NeverSent(self._message(f"{answer}; the request was not sent"))
        if isinstance(answer, httpx.HTTPError):
            return self._ambiguous(f"{answer}; the request may have been sent")
        if answer.succeeded:
            return self._success(answer, seed, seed_input)
        return self._refusal(answer.status, load_object(answer)[0], answer)

    def poll(self, answer: Answer, *, prediction_id: str) -> PollOutcome:
        """Classify the answer to a poll or a cancel of one prediction."""
        if isinstance(answer, httpx.HTTPError):
            return PollFailed(self._message(str(answer)))
        body, unreadable = load_object(answer)
        code = answer.status
        if answer.succeeded:
            prediction = parse_prediction(body, *self._secrets)
            if prediction is not None and prediction.id in (None, prediction_id):
                named = prediction if prediction.id else replace(prediction, id=prediction_id)
                return Polled(named)
            if unreadable or prediction is not None or not body.get("error"):
                what = unreadable or f"the reply is for something else ({answer.describe()})"
                return PollFailed(self._message(what))
            code = error_code(body, code)  # an error under HTTP 200, as aggregators send it
        detail = self._detail(body, answer)
        if code in DENIALS:
            return AccessDenied(code, detail)
        if code in _GONE:
            return Gone(self._message(f"answered {code}: {detail}"))
        return PollFailed(
            self._message(f"answered {code}: {detail}"), self._retry_after(body, answer)
        )

    def model(self, answer: Answer, *, name: str) -> ModelOutcome:
        """Classify the answer to a question about a model or a version of one."""
        if isinstance(answer, httpx.HTTPError):
            return ModelFailed(self._message(str(answer)))
        body, unreadable = load_object(answer)
        code = answer.status
        if answer.succeeded and unreadable:
            return ModelFailed(self._message(f"{name}: {unreadable}"))
        if answer.succeeded and not body.get("error"):
            return body
        if answer.succeeded:
            code = error_code(body, code)
        detail = self._detail(body, answer)
        if code in DENIALS:
            return AccessDenied(code, detail)
        if code in _NO_MODEL:
            return NoModel(
                self._message(f"has no {name}, or tells nothing of models ({code}: {detail})")
            )
        return ModelFailed(
            self._message(f"{name}: answered {code}: {detail}"), self._retry_after(body, answer)
        )

    def _success(self, answer: Reply, seed: int | None, seed_input: str) -> CreateOutcome:
        """Classify a 2xx reply to a create: a prediction, an error in disguise, or neither."""
        body, unreadable = load_object(answer)
        prediction = parse_prediction(body, *self._secrets)
        if prediction is not None:
            if seed is not None and not _same_seed(prediction, seed, seed_input):
                return self._ambiguous("the reply shows another seed than was sent")
            return Accepted(prediction)
        if body.get("id") is None and body.get("error"):
            code = error_code(body, answer.status)
            if code != answer.status:
                return self._refusal(code, body, answer)
            if _UPSTREAM.search(str(body["error"])):
                return self._ambiguous(f"answered an error: {self._detail(body, answer)}")
            # Nothing was made, but whose fault that is remains open: nothing is final.
            return self._rejection(code, body, answer)
        return self._ambiguous(unreadable or f"the reply is no prediction ({answer.describe()})")

    def _refusal(self, code: int, body: Mapping[str, Any], answer: Reply) -> CreateOutcome:
        """Classify an error by its code: the status, or the code of an error under HTTP 200."""
        detail = self._detail(body, answer)
        if code == THROTTLED:
            return Throttled(self._retry_after(body, answer))
        if code in DENIALS:
            return AccessDenied(code, detail)
        if code == REFUSED_INPUT and not _is_about_the_call(body):
            return Refused(code, detail)
        if code == REFUSED_INPUT or code in REJECTIONS:
            return self._rejection(code, body, answer)
        return self._ambiguous(f"answered {code}: {detail}")

    def _rejection(self, code: int, body: Mapping[str, Any], answer: Reply) -> CreateOutcome:
        """Tell an error that names a field of the input from one about the call itself."""
        detail = self._detail(body, answer)
        if names_input_field(body):
            return Refused(code, detail)
        return Rejected(code, f"{detail}; {advice_for(code)}")

    def _ambiguous(self, reason: str) -> Ambiguous:
        return Ambiguous(self._message(reason))

    def _message(self, text: str) -> str:
        return f"{self._host}: {redact_untrusted(text, *self._secrets)}"

    def _detail(self, body: Mapping[str, Any], answer: Reply) -> str:
        return error_text(body, *self._secrets) or redact_untrusted(
            answer.describe(), *self._secrets
        )

    def _retry_after(self, body: Mapping[str, Any], answer: Reply) -> float:
        return retry_after(answer.headers, body, now=self._clock())


def _same_seed(prediction: Prediction, seed: int, seed_input: str) -> bool:
    """Whether the input that the reply shows has this seed, or none, or none that is a number."""
    shown = prediction.input.get(seed_input)
    return not isinstance(shown, (int, float)) or isinstance(shown, bool) or shown == seed


def error_text(body: Any, *secrets: str) -> str:
    """The error object's text, redacted, on one line of at most 300 characters; may be empty.

    Reads ``{title, detail, status}``, ``{detail: [{loc, msg}]}``, ``{error: {message, …}}``,
    ``{error: "…"}``, ``{message}`` and ``invalid_fields``.
    """
    return shorten(
        redact_untrusted("; ".join(filter(None, _error_texts(body))), *secrets), _MAX_ERROR_TEXT
    )


def error_code(body: Mapping[str, Any], status: int) -> int:
    """The HTTP code that an error object under ``status`` stands for.

    Aggregators pass an upstream's error on under HTTP 200: there the object's own code counts, as
    a number or as one of the known names. ``status`` where it holds neither.
    """
    error = body.get("error")
    if not isinstance(error, Mapping):
        return status
    for name in ("code", "status", "type"):
        value = error.get(name)
        if isinstance(value, str):
            value = _CODES_BY_NAME.get(value.lower(), int(value) if value.isdecimal() else None)
        if isinstance(value, int) and 400 <= value <= 599:  # noqa: PLR2004
            return value
    return status


def _error_texts(body: Any) -> Iterator[str]:
    if isinstance(body, str):
        yield body
    if not isinstance(body, Mapping):
        return
    error = body.get("error")
    yield from _error_texts(error)
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


def names_input_field(body: Mapping[str, Any]) -> bool:
    """Whether an error object says which field of the input is wrong.

    Reads ``invalid_fields: [{field: "input.…"}]``, ``detail: [{loc: ["body", "input", …]}]`` and
    ``error: {param: "input.…"}``.
    """
    return any("input" in words[:-1] for words in _named_fields(body))


def _is_about_the_call(body: Mapping[str, Any]) -> bool:
    """Whether a 422 is about something beside the input: the model's version, or the body's form.

    That is the same for every prompt of the run.
    """
    fields = list(_named_fields(body))
    if fields:
        return not names_input_field(body)
    return any(_WRONG_VERSION.search(text) for text in _error_texts(body))


def _named_fields(body: Mapping[str, Any]) -> Iterator[Sequence[object]]:
    """The path of each field that an error object names, such as ``["input", "seed"]``."""
    for problems in (body.get("invalid_fields"), body.get("detail")):
        for each in problems if isinstance(problems, list) else ():
            place = each.get("loc") or each.get("field") if isinstance(each, Mapping) else None
            if place:
                yield place if isinstance(place, list) else str(place).split(".")
    error = body.get("error")
    param = error.get("param") if isinstance(error, Mapping) else None
    if isinstance(param, str) and param:
        yield param.split(".")


def advice_for(code: int) -> str:
    """What to check after a create was rejected with this code."""
    if code < _FIRST_REDIRECT:
        return "look up on the provider's pages what it asks for"
    if code == _PROXY_DENIED:
        return "a proxy before the provider wants a user and a password"
    if code in _WRONG_ADDRESS:
        return (
            "check FLUX_PROVIDER: the base URL with its prefix, without /v1; for an official model"
            " also FLUX_ROUTE"
        )
    if code in _TOO_LARGE:
        return "the request is too large for the provider or for a proxy before it"
    return (
        "the form of the call is not accepted: check FLUX_PROVIDER (the base URL with its prefix,"
        " without /v1), FLUX_ROUTE, and that the provider has this model and version"
    )


def retry_after(headers: Mapping[str, str], body: Any, *, now: float) -> float:
    """Seconds to wait, 0 to 60; 0 without a hint. ``now`` is unix seconds by our clock.

    The hint is, in this order, the ``Retry-After`` header (seconds or a date), ``retry_after`` in
    the body, "resets in ~30s" in its ``detail``, or the ``ratelimit-reset`` header (seconds, or a
    unix time). A date is read against the reply's own ``Date`` where there is one, so that a wrong
    clock on either side does not matter.
    """
    fields: Mapping[str, Any] = body if isinstance(body, Mapping) else {}
    hints = (
        _seconds_in_header(headers.get("retry-after"), headers.get("date"), now),
        _finite_number(fields.get("retry_after")),
        _seconds_in_text(fields.get("detail")),
        _seconds_to_reset(headers.get("ratelimit-reset"), now),
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


def _seconds_in_header(text: str | None, date: str | None, now: float) -> float | None:
    seconds = _finite_number(text)
    if seconds is not None or text is None:
        return seconds
    moment = unix_time(text)
    if moment is None:
        return None
    reference = unix_time(date)
    return moment - (now if reference is None else reference)


def _seconds_in_text(detail: object) -> float | None:
    found = _RESETS_IN.search(detail[:2000]) if isinstance(detail, str) else None
    return float(found[1]) * _UNITS[(found[2] or "s").lower()] if found else None


def _seconds_to_reset(text: str | None, now: float) -> float | None:
    seconds = _finite_number(text)
    return seconds - now if seconds is not None and seconds > _EPOCH else seconds


def _finite_number(value: object) -> float | None:
    """Return a finite number of seconds, from JSON or from a header."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
