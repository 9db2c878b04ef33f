"""The create whose fate is unknown: found in the provider's list, proven absent, or held.

Settling by a list that was read too early pays twice. So absence counts only in a reading begun
``visibility`` seconds after the last moment at which the request could have been sent, and only
while the list still reaches back to that moment.
"""

from collections.abc import Sequence

from flux_pipeline.ledger.base import Attempt, State
from flux_pipeline.lineage.record import ImageStatus
from flux_pipeline.outcomes import Absent, AccessDenied, FindOutcome, Found, ListFailed, NoList
from flux_pipeline.produce.course import Course, Stage, Step, close
from flux_pipeline.produce.effects import (
    FindInList,
    ReadHistory,
    RenewClaim,
    Sleep,
    TakeResend,
    WriteFound,
)
from flux_pipeline.produce.policy import Policy
from flux_pipeline.produce.report import Ending, Stop


def settle(course: Course, attempt: Attempt, *, sent_before: float) -> Stage[Step]:
    """Find out what became of a POST without an answer.

    ``sent_before`` is the monotonic time after which nothing of it can be sent any more.
    """
    policy, failures, looks = course.policy, 0, 0
    proof_from = sent_before + policy.visibility
    age = attempt.claimed_at - attempt.intent_at  # below 0: a clock was set, so it proves nothing
    remembered = 0 <= age < policy.list_reach - policy.visibility
    while True:
        begun = course.clock()
        outcome: FindOutcome = yield FindInList(attempt)
        match outcome:
            case Found(prediction):
                ours: bool = yield WriteFound(attempt, prediction)
                return prediction if ours else attempt
            case Absent() if remembered and begun < proof_from:
                failures = 0
                looks += 1  # a late list may show it any moment: the slot is free the sooner
                wait = min(proof_from - course.clock(), policy.wait_after(looks))
            case ListFailed(_, retry_after) if (
                begun <= proof_from + policy.settle_patience or failures + 1 < policy.list_tries
            ):
                failures += 1
                wait = max(retry_after, policy.wait_after(failures))
            case _:
                return (yield from _conclude(course, attempt, outcome, remembered=remembered))
        if not (yield from _wait(attempt, wait, policy)):
            return attempt


def _conclude(
    course: Course, attempt: Attempt, outcome: FindOutcome, *, remembered: bool
) -> Stage[Step]:
    """Nothing more is to be learnt from the list."""
    match outcome:
        case Absent() if remembered:
            absent = "absent from the provider's list"
            return (yield from close(attempt, State.UNSENT, resolution=absent))
        case AccessDenied(code, detail):
            reason = f"not settled: the provider answered {code}: {detail}"
            return course.fail(reason, attempt, stop=Stop.of_denial(code))
        case ListFailed(reason):
            return (yield from _hold(course, attempt, f"the list is unreadable: {reason}"))
        case NoList():
            return (yield from _unknown(course, attempt, "the provider has no list"))
        case _:
            return (yield from _unknown(course, attempt, "the provider's list has forgotten"))


def _wait(attempt: Attempt, seconds: float, policy: Policy) -> Stage[bool]:
    """Wait and keep the claim: two workers would else take it from each other before any proof."""
    while seconds > 0:
        nap = min(seconds, policy.lease / 3)
        yield Sleep(nap)
        if not (yield RenewClaim(attempt)):
            return False
        seconds -= nap
    return True


def _unknown(course: Course, attempt: Attempt, why: str) -> Stage[Step]:
    """No proof can be had: send again where the policy allows it, and say so; else hold."""
    if course.policy.unknown == "hold":
        return (yield from _hold(course, attempt, why))
    history: Sequence[Attempt] = yield ReadHistory()
    if any(earlier.state is State.RESENT for earlier in history):
        return (yield from _hold(course, attempt, f"{why}, and it was sent again once already"))
    allowed: bool = yield TakeResend()
    if not allowed:
        return (yield from _hold(course, attempt, f"{why}, and this run has sent too many again"))
    closed = yield from close(attempt, State.RESENT, resolution=why)
    if closed.state is State.RESENT:
        course.notices.append(
            f"possibly paid twice: attempt {attempt.number} of {course.request.request_sha256[:12]}"
            f" had no answer and {why}; at most {course.request.cost_usd:.4f} USD"
        )
    return closed


def _hold(course: Course, attempt: Attempt, why: str) -> Stage[Step]:
    reason = (
        f"held: attempt {attempt.number} may have been paid and {why};"
        " `flux-pipeline held` shows and ends it"
    )
    records = course.records_without_image(ImageStatus.FAILED, reason, attempt)
    closed = yield from close(attempt, State.HELD, error=reason, records=records)
    return course.end(Ending.HELD, records, reason) if closed.state is State.HELD else closed
