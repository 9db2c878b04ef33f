"""Decides what an answer means: for a create, whether it may have been paid for.

This is the one place. A create is proven unpaid by an error before the connection was ready and by
the codes in ``REFUSALS``; every answer that is neither one of those nor a prediction leaves it
ambiguous, and whoever gets that must not send it again before it is settled.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import httpx

from flux_pipeline.outcomes import (
    Accepted,
    AccessDenied,
    Ambiguous,
    CreateOutcome,
    Gone,
    NeverSent,
    Polled,
    PollFailed,
    PollOutcome,
    Refused,
    Throttled,
)
from flux_pipeline.prediction import Prediction
from flux_pipeline.provider.hints import retry_after
from flux_pipeline.provider.parse import parse_prediction
from flux_pipeline.provider.refusal import error_code, error_text
from flux_pipeline.provider.reply import Reply, UnreadableReply, load_object
from flux_pipeline.provider.transport import NEVER_SENT
from flux_pipeline.redaction import redact_untrusted

Answer: TypeAlias = Reply | httpx.HTTPError
REFUSALS = frozenset({400, 401, 402, 403, 404, 413, 415, 422, 429})
"""Codes that say that no prediction exists."""
DENIALS = frozenset({401, 402, 403})
"""Those of them that no other request will escape."""
THROTTLED = 429
_GONE = frozenset({404, 410})


class Judge:
    """Classifies the answers of one host. ``secret`` is cut out of what is said about them."""

    def __init__(self, host: str, secret: str, clock: Callable[[], float]) -> None:
        self._host = host
        self._secret = secret
        self._clock = clock

    def create(self, answer: Answer, *, seed: int | None = None) -> CreateOutcome:
        """Classify what came of one POST.

        ``seed`` is the one that was sent: a reply that shows another one is another request's.
        """
        if isinstance(answer, NEVER_SENT):
            return NeverSent(self._say(f"{answer}; the request was not sent"))
        if isinstance(answer, httpx.HTTPError):
            return self._ambiguous(f"{answer}; the request may have been sent")
        if answer.succeeded:
            return self._success(answer, seed)
        return self._refusal(answer.status, _object(answer)[0], answer)

    def poll(self, answer: Answer, *, prediction_id: str) -> PollOutcome:
        """Classify what came of asking for one prediction, or of cancelling it."""
        if isinstance(answer, httpx.HTTPError):
            return PollFailed(self._say(str(answer)))
        body, unreadable = _object(answer)
        code = answer.status
        if answer.succeeded:
            prediction = parse_prediction(body, self._secret)
            if prediction is not None and prediction.id in (None, prediction_id):
                return Polled(replace(prediction, id=prediction_id))
            if unreadable or prediction is not None or not body.get("error"):
                what = unreadable or f"the reply is for something else ({answer.describe()})"
                return PollFailed(self._say(what))
            code = error_code(body, code)
        detail = self._detail(body, answer)
        if code in DENIALS:
            return AccessDenied(code, detail)
        if code in _GONE:
            return Gone(self._say(f"answered {code}: {detail}"))
        return PollFailed(self._say(f"answered {code}: {detail}"), self._hint(body, answer))

    def _success(self, answer: Reply, seed: int | None) -> CreateOutcome:
        """Classify a 2xx reply to a create: a prediction, an error in disguise, or neither."""
        body, unreadable = _object(answer)
        prediction = parse_prediction(body, self._secret)
        if prediction is not None:
            if seed is not None and not _same_seed(prediction, seed):
                return self._ambiguous("the reply shows another seed than was sent")
            return Accepted(prediction)
        if body.get("id") is None and body.get("error"):
            code = error_code(body, answer.status)
            if code != answer.status:
                return self._refusal(code, body, answer)
            return Refused(code, self._detail(body, answer))
        return self._ambiguous(unreadable or f"the reply is no prediction ({answer.describe()})")

    def _refusal(self, code: int, body: Mapping[str, Any], answer: Reply) -> CreateOutcome:
        """Classify an error by its code, which is the status or what an error object says."""
        detail = self._detail(body, answer)
        if code == THROTTLED:
            return Throttled(self._hint(body, answer))
        if code in DENIALS:
            return AccessDenied(code, detail)
        if code in REFUSALS:
            return Refused(code, detail)
        return self._ambiguous(f"answered {code}: {detail}")

    def _ambiguous(self, what: str) -> Ambiguous:
        return Ambiguous(self._say(what))

    def _say(self, what: str) -> str:
        return f"{self._host}: {redact_untrusted(what, self._secret)}"

    def _detail(self, body: Mapping[str, Any], answer: Reply) -> str:
        return error_text(body, self._secret) or redact_untrusted(answer.describe(), self._secret)

    def _hint(self, body: Mapping[str, Any], answer: Reply) -> float:
        return retry_after(answer.headers, body, now=self._clock())


def _object(answer: Reply) -> tuple[dict[str, Any], str]:
    """Return the reply's object, and why there is none."""
    try:
        return load_object(answer), ""
    except UnreadableReply as error:
        return {}, str(error)


def _same_seed(prediction: Prediction, seed: int) -> bool:
    """Whether the input that the reply shows has this seed, or none, or none that is a number."""
    shown = prediction.input.get("seed")
    return not isinstance(shown, (int, float)) or isinstance(shown, bool) or shown == seed
