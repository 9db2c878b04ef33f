"""An accepted prediction, followed by id until it ends: polled, never created again."""

from dataclasses import dataclass

from flux_pipeline.ledger.base import Attempt, State
from flux_pipeline.lineage.record import ImageStatus
from flux_pipeline.outcomes import AccessDenied, Gone, Polled, PollFailed, PollOutcome
from flux_pipeline.prediction import Prediction, Status
from flux_pipeline.produce.course import Course, Stage, Step, close
from flux_pipeline.produce.effects import AwaitPoll, Cancel, Poll, RenewClaim, Sleep, WriteSucceeded
from flux_pipeline.produce.failures import judge_failure
from flux_pipeline.produce.report import Ending, Result, Stop


@dataclass(slots=True)
class _Watch:
    """What is counted while one prediction is followed."""

    accepted_at: float
    renewed_at: float
    polls: int = 0
    failures: int = 0
    missing: int = 0
    empty: int = 0


def follow(
    course: Course, attempt: Attempt, prediction: Prediction, *, resumed: bool
) -> Stage[Step]:
    """Poll to the end. A Prediction comes back succeeded, with its outputs."""
    watch = _Watch(accepted_at=course.clock(), renewed_at=course.clock())
    while prediction.status is not Status.SUCCEEDED or not prediction.outputs:
        if prediction.status is Status.SUCCEEDED:
            watch.empty += 1
            if prediction.data_removed or watch.empty > course.policy.gone_tries:
                return (yield from lose(course, attempt, "it succeeded without any output left"))
        elif prediction.status.is_final:
            return (yield from _failed(course, attempt, prediction))
        now = course.clock()
        if now - watch.accepted_at > course.policy.deadline:
            return (yield from _give_up(course, attempt, prediction))
        if now - watch.renewed_at > course.policy.lease / 2:
            watch.renewed_at = now
            if not (yield RenewClaim(attempt)):
                return attempt
        if watch.polls or not resumed:
            yield AwaitPoll(elapsed=now - watch.accepted_at, polls=watch.polls)
        answer = yield from _poll(course, attempt, prediction, watch)
        if isinstance(answer, Result):
            return answer
        prediction = answer
    yield WriteSucceeded(attempt, prediction)
    return prediction


def _poll(
    course: Course, attempt: Attempt, prediction: Prediction, watch: _Watch
) -> Stage[Prediction | Result]:
    """Ask once. Where there is no answer, the prediction comes back as it was, after a wait."""
    outcome: PollOutcome = yield Poll(_id(prediction))
    watch.polls, course.polls = watch.polls + 1, course.polls + 1
    match outcome:
        case Polled(answer):
            watch.failures = watch.missing = 0
            return answer
        case AccessDenied(code, detail):
            reason = _kept_by_id(prediction, f"answered {code}: {detail}")
            return course.fail(reason, attempt, stop=Stop.of_denial(code))
        case Gone(reason):
            watch.missing += 1
            if watch.missing > course.policy.gone_tries:
                return (yield from lose(course, attempt, f"the provider lost it: {reason}"))
            yield Sleep(course.policy.wait_after(watch.missing) * 2)
        case PollFailed(_, retry_after):
            watch.failures += 1
            yield Sleep(max(retry_after, course.policy.wait_after(watch.failures)))
    return prediction


def lose(course: Course, attempt: Attempt, why: str) -> Stage[Result]:
    """Close what was paid and can't be had any more; it is said loudly and not paid again."""
    reason = f"paid and lost: prediction {attempt.prediction_id or '(no id)'}: {why}"
    records = course.records_without_image(ImageStatus.FAILED, reason, attempt)
    course.notices.append(reason)
    yield from close(attempt, State.EXPIRED, error=reason, records=records)
    return course.end(Ending.FAILED, records, reason)


def _failed(course: Course, attempt: Attempt, prediction: Prediction) -> Stage[Step]:
    """An end without success: again where it may help, else a record that says why."""
    if prediction.status is Status.FAILED:
        verdict = judge_failure(prediction.error)
        reason = f"prediction {prediction.id} failed: {prediction.error or 'no reason given'}"
        course.transient += 1
        again = verdict == "transient" and course.transient <= course.policy.transient_tries
    else:
        verdict = "transient"
        reason = f"prediction {prediction.id} was {prediction.status} at the provider"
        course.canceled += 1
        again = course.canceled <= course.policy.canceled_tries
    status = ImageStatus.REFUSED if verdict == "refused" else ImageStatus.FAILED
    records = tuple(
        course.record(index, status, reason, attempt, prediction)
        for index in range(course.request.outputs)
    )
    state = State.REFUSED if verdict == "refused" else State.FAILED
    retryable = verdict == "transient"
    closed = yield from close(attempt, state, error=reason, retryable=retryable, records=records)
    if again:
        return closed
    ending = Ending.REFUSED if verdict == "refused" else Ending.FAILED
    return course.end(ending, records, reason)


def _give_up(course: Course, attempt: Attempt, prediction: Prediction) -> Stage[Step]:
    """Our deadline: cancel, confirm, and adopt it where it has succeeded meanwhile."""
    outcome: PollOutcome = yield Cancel(_id(prediction))
    if not (isinstance(outcome, Polled) and outcome.prediction.status.is_final):
        reason = f"no end within {course.policy.deadline:.0f} s, and it could not be canceled"
        return course.fail(_kept_by_id(prediction, reason), attempt)
    final = outcome.prediction
    if final.status is Status.SUCCEEDED and final.outputs:
        yield WriteSucceeded(attempt, final)
        return final
    if final.status is Status.SUCCEEDED:
        return (yield from lose(course, attempt, "it succeeded without any output until the end"))
    if final.status is Status.FAILED:
        return (yield from _failed(course, attempt, final))
    reason = (
        f"prediction {prediction.id} had not ended after {course.policy.deadline:.0f} s"
        " and was canceled; a new run tries again"
    )
    records = course.records_without_image(ImageStatus.FAILED, reason, attempt)
    yield from close(attempt, State.FAILED, error=reason, retryable=True, records=records)
    return course.end(Ending.FAILED, records, reason)


def _id(prediction: Prediction) -> str:
    if prediction.id is None:  # the shape without an id is final from the start
        raise ValueError("a prediction without an id can't be polled")
    return prediction.id


def _kept_by_id(prediction: Prediction, why: str) -> str:
    return f"prediction {prediction.id}: {why}; its id is kept, the next run resumes it"
