"""The one algorithm, sans I/O: what to do for one request, whatever happened before.

An open intent always means that a POST may be under way: it is written last before the POST and
closed or accepted first after it. So whoever finds one open, and may take it over, settles it
with the provider before anything is sent again.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from flux_pipeline.ledger.base import Attempt, Busy, Claim, Claimed, Over, OverBudget, State
from flux_pipeline.ledger.codec import load_prediction
from flux_pipeline.lineage.record import ImageRecord, ImageStatus
from flux_pipeline.outcomes import (
    Accepted,
    AccessDenied,
    Ambiguous,
    CreateOutcome,
    NeverSent,
    Refused,
    Throttled,
)
from flux_pipeline.prediction import Prediction
from flux_pipeline.produce.budgets import over_budget
from flux_pipeline.produce.collect import collect
from flux_pipeline.produce.course import Course, Stage, Step, close
from flux_pipeline.produce.effects import AwaitPermit, ClaimAttempt, Send, Sleep, WriteAccepted
from flux_pipeline.produce.follow import follow
from flux_pipeline.produce.policy import Policy, ending_of
from flux_pipeline.produce.report import Ending, Result, Stop
from flux_pipeline.produce.run import RunContext
from flux_pipeline.produce.settle import settle
from flux_pipeline.request import Request


def produce(
    request: Request,
    *,
    latest: Attempt | None,
    run: RunContext,
    policy: Policy,
    clock: Callable[[], float],
    load_records: Callable[[str], Sequence[ImageRecord]],
) -> Stage[Result]:
    """Bring one request to its end: yields effects, takes outcomes, returns the result.

    Whatever interrupts it, running it again with the ledger's latest attempt finishes what was
    begun: what was accepted is resumed by id, what may have been accepted is settled first, and
    what is over costs nothing. ``latest`` may be stale; ``clock`` is monotonic seconds.
    """
    course = Course(request, run, policy, clock, begun_at=clock())
    while True:
        ended = _over(course, latest, load_records)
        if ended is not None:
            return ended
        asked_at, claim = yield from _claim(course, latest)
        match claim:
            case OverBudget():
                reason = over_budget(claim, request.cost_usd)
                return course.fail(reason, stop=Stop.of_budget(claim.scope))
            case Busy():
                yield Sleep(min(claim.seconds, policy.busy_interval))
            case Over():
                latest = claim.attempt
            case Claimed():
                step = yield from _advance(course, claim, asked_at)
                if isinstance(step, Result):
                    return step
                latest = step


def _claim(course: Course, latest: Attempt | None) -> Stage[tuple[float, Claim]]:
    """Claim the open attempt, or wait for a permit and write the intent of a new one."""
    after = 0
    if latest is None or not latest.state.is_open:
        after = latest.number if latest else 0
        yield AwaitPermit()
    asked_at = course.clock()
    claim: Claim = yield ClaimAttempt(after)
    return asked_at, claim


def _advance(course: Course, claim: Claimed, asked_at: float) -> Stage[Attempt | Result]:
    """Take a claimed attempt as far as it goes: to a result, or to where another may follow."""
    attempt = claim.attempt
    if claim.fresh:
        sent = yield from _send(course, attempt, asked_at)
    elif attempt.state is State.INTENT:
        sent = yield from settle(course, attempt, sent_before=course.clock())
    else:
        sent = load_prediction(attempt.prediction_id, attempt.reply)
    if isinstance(sent, (Result, Attempt)):
        return sent
    attempt = replace(attempt, state=State.ACCEPTED, prediction_id=sent.id)
    final = yield from follow(course, attempt, sent, resumed=not claim.fresh)
    if isinstance(final, (Result, Attempt)):
        return final
    return (yield from collect(course, attempt, final))


def _send(course: Course, attempt: Attempt, claimed_at: float) -> Stage[Step]:
    """POST once, and turn the answer into a prediction, a result, or an attempt to follow."""
    outcome: CreateOutcome = yield Send(
        attempt, not_after=claimed_at + course.policy.lease - course.policy.send_timeout
    )
    match outcome:
        case Accepted(prediction):
            return (yield from _accept(course, attempt, prediction))
        case Ambiguous():
            return (yield from settle(course, attempt, sent_before=course.clock()))
        case Refused(code, detail):
            reason = f"refused by the provider ({code}): {detail}; nothing was paid"
            records = course.records_without_image(ImageStatus.REFUSED, reason, attempt)
            yield from close(attempt, State.REFUSED, error=reason, records=records)
            return course.end(Ending.REFUSED, records, reason)
        case AccessDenied() | NeverSent() | Throttled():
            return (yield from _unsent(course, attempt, outcome))


def _accept(course: Course, attempt: Attempt, prediction: Prediction) -> Stage[Step]:
    """Write the id down; where the attempt had been given up meanwhile, the claim decides anew."""
    course.created += 1
    state: State = yield WriteAccepted(attempt, prediction)
    if state is State.DUPLICATE:
        course.notices.append(f"paid twice: prediction {prediction.id} came after it was given up")
        return attempt
    return prediction


def _unsent(
    course: Course, attempt: Attempt, outcome: AccessDenied | NeverSent | Throttled
) -> Stage[Step]:
    """Nothing was accepted: give the reservation back, and try again where that may help."""
    closed = yield from close(attempt, State.UNSENT, resolution=type(outcome).__name__)
    match outcome:
        case AccessDenied(code, detail):
            reason = f"not sent: the provider answered {code}: {detail}"
            return course.fail(reason, stop=Stop.of_denial(code))
        case NeverSent(reason):
            course.never_sent += 1
            if course.never_sent >= course.policy.never_sent_tries:
                return course.fail(f"not sent: {reason}; nothing was paid")
            yield Sleep(course.policy.wait_after(course.never_sent))
        case Throttled():  # the limiter has slowed down: the next permit waits
            if course.clock() - course.begun_at > course.policy.deadline:
                return course.fail("not sent: the provider answered 429 until our deadline")
    return closed


def _over(
    course: Course,
    latest: Attempt | None,
    load_records: Callable[[str], Sequence[ImageRecord]],
) -> Result | None:
    """What a closed attempt means for this run; None where there is something to do."""
    ending = ending_of(latest, course.policy) if latest is not None else None
    if latest is not None and ending is not None:
        return course.end(ending, load_records(latest.images), latest.error or "")
    if not course.policy.may_create and (latest is None or not latest.state.is_open):
        return course.fail("not sent: a rescue finishes what was accepted, and no more")
    return None
