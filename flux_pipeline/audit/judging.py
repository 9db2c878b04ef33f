"""What the ledger alone tells of one request: held, paid twice, paid and lost."""

import json
from collections.abc import Iterator, Sequence

from flux_pipeline.audit.findings import Finding, Kind
from flux_pipeline.ledger.base import Attempt, State
from flux_pipeline.lineage.record import ImageStatus, records_from_json
from flux_pipeline.prediction import Status


def judge(attempts: Sequence[Attempt]) -> Iterator[Finding]:
    """Judge all attempts of one request, oldest first.

    What is open is no finding: a run is at work on it, or a rescue will be.
    """
    for place, attempt in enumerate(attempts):
        named = attempt.prediction_id or attempt.request_sha256
        match attempt.state:
            case State.HELD:
                yield Finding(Kind.HELD, attempt.request_sha256, _HELD)
            case State.DUPLICATE:
                yield Finding(Kind.PAID_TWICE, named, _DUPLICATE)
            case State.RESENT:
                yield Finding(Kind.PAID_TWICE, attempt.request_sha256, _RESENT)
            case State.STORED:
                yield from _missing(attempt, named)
            case _ if is_paid_in_vain(attempt):
                yield from _in_vain(attempt, attempts[place + 1 :], named)


def is_paid_in_vain(attempt: Attempt) -> bool:
    """Whether the attempt is over, was paid for, and left no image at all."""
    if attempt.state is State.EXPIRED:
        return True
    return attempt.state is State.FAILED and _status(attempt.reply) == Status.SUCCEEDED


def _in_vain(attempt: Attempt, later: Sequence[Attempt], named: str) -> Iterator[Finding]:
    """Name what was paid: as lost, or as one too many where it was paid for again."""
    followers = [each for each in later if each.state is not State.DUPLICATE]
    if any(_is_paid(each) for each in followers):
        yield Finding(Kind.PAID_TWICE, named, f"{_reason(attempt)}; and made again, paid again")
    elif not any(each.state is State.INTENT for each in followers):
        yield Finding(Kind.LOST, named, f"{_reason(attempt)}; {_NEW_SEED}")


def _missing(attempt: Attempt, named: str) -> Iterator[Finding]:
    """Name the images that a finished attempt paid for and could not keep."""
    try:
        records = records_from_json(attempt.images)
    except ValueError:
        what = "its records in the ledger can't be read; restore the ledger from a backup"
        yield Finding(Kind.UNREADABLE, attempt.request_sha256, what)
        return
    for record in records:
        if record.status is ImageStatus.FAILED:
            what = f"image {record.output_index}: {record.error or 'no reason given'}; {_NEW_SEED}"
            yield Finding(Kind.LOST, named, what)


def _is_paid(attempt: Attempt) -> bool:
    paid = attempt.state in {State.ACCEPTED, State.SUCCEEDED, State.STORED}
    return paid or is_paid_in_vain(attempt)


def _reason(attempt: Attempt) -> str:
    return attempt.error or "paid, and not stored"


def _status(reply: str) -> str:
    """The status word of the ledger's copy of a reply."""
    try:
        found = json.loads(reply or "{}")
    except ValueError:
        return ""
    return str(found.get("status", "")) if isinstance(found, dict) else ""


_HELD = (
    "may have been paid, and nothing can prove it; look for it at the provider, then end it with"
    " `flux-pipeline held adopt`, `resend` or `drop`"
)
_DUPLICATE = (
    "accepted after it had been given up, and another prediction of the same request was paid too;"
    " ask the provider for the money"
)
_RESENT = (
    "possibly: an earlier create of this request was never answered and it was sent again; if the"
    " provider shows two, `flux-pipeline held adopt` notes the other one"
)
_NEW_SEED = "to have it, ask for it anew with another seed or take"
