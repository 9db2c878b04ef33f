"""Decides what an answer means: for a create, whether it may have been paid for.

This is the one place. A create is proven unpaid by an error before the connection was ready and by
the codes in ``REFUSALS``; every answer that is neither one of those nor a prediction leaves it
ambiguous, and whoever gets that must not send it again before it is settled.
"""

from dataclasses import replace
from typing import Any

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

REFUSALS = frozenset({400, 401, 402, 403, 404, 413, 415, 422, 429})
"""Codes that say that no prediction exists."""
DENIALS = frozenset({401, 402, 403})
"""Those of them that no other request will escape."""
THROTTLED = 429
_GONE = frozenset({404, 410})


def create_outcome(
    answer: Reply | httpx.HTTPError,
    *,
    host: str,
    secret: str,
    now: float,
    seed: int | None = None,
) -> CreateOutcome:
    """Classify what came of one POST.

    ``now`` is unix seconds, for hints that are dates; ``seed`` is the one that was sent: a reply
    that shows another one belongs to another request.
    """
    if isinstance(answer, NEVER_SENT):
        return NeverSent(f"{host}: {answer}; the request was not sent")
    if isinstance(answer, httpx.HTTPError):
        return Ambiguous(f"{host}: {answer}; the request may have been sent")
    body, unreadable = _object(answer)
    if not answer.succeeded:
        if answer.status == THROTTLED:
            return Throttled(retry_after(answer.headers, body, now=now))
        return _refusal(answer.status, body, answer, secret)
    if unreadable:
        return Ambiguous(f"{host}: {unreadable}")
    prediction = parse_prediction(body, secret)
    if prediction is not None and seed is not None and _echoed(prediction) not in (None, seed):
        return Ambiguous(f"{host}: the reply is for another seed ({answer.describe()})")
    if prediction is not None:
        return Accepted(prediction)
    if body.get("id") is not None:
        return Ambiguous(f"{host}: the reply's id is not one ({answer.describe()})")
    if not body.get("error"):
        return Ambiguous(f"{host}: the reply has no id, no data and no error ({answer.describe()})")
    code = error_code(body, answer.status)
    if code == THROTTLED:
        return Throttled(retry_after(answer.headers, body, now=now))
    if code == answer.status:
        return Refused(code, error_text(body, secret) or answer.describe())
    return _refusal(code, body, answer, secret)


def poll_outcome(
    answer: Reply | httpx.HTTPError, *, prediction_id: str, host: str, secret: str, now: float
) -> PollOutcome:
    """Classify what came of asking for one prediction, or of cancelling it."""
    if isinstance(answer, httpx.HTTPError):
        return PollFailed(f"{host}: {answer}")
    body, unreadable = _object(answer)
    code = answer.status
    if answer.succeeded:
        if unreadable:
            return PollFailed(f"{host}: {unreadable}")
        prediction = parse_prediction(body, secret)
        if prediction is not None and prediction.id in (None, prediction_id):
            return Polled(replace(prediction, id=prediction_id))
        code = error_code(body, code) if body.get("error") and prediction is None else code
    detail = error_text(body, secret) or answer.describe()
    if code in DENIALS:
        return AccessDenied(code, detail)
    if code in _GONE:
        return Gone(f"{host} answered {code}: {detail}")
    return PollFailed(
        f"{host} answered {code}: {detail}", retry_after(answer.headers, body, now=now)
    )


def _refusal(code: int, body: dict[str, Any], answer: Reply, secret: str) -> CreateOutcome:
    detail = error_text(body, secret) or answer.describe()
    if code in DENIALS:
        return AccessDenied(code, detail)
    if code in REFUSALS:
        return Refused(code, detail)
    return Ambiguous(f"answered {code}: {detail}")


def _echoed(prediction: Prediction) -> int | None:
    """Return the seed in the input that the reply shows, or None."""
    seed = prediction.input.get("seed")
    return seed if isinstance(seed, int) else None


def _object(answer: Reply) -> tuple[dict[str, Any], str]:
    """Return the reply's object, and why there is none."""
    try:
        return load_object(answer), ""
    except UnreadableReply as error:
        return {}, str(error)
