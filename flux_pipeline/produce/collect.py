"""The outputs of a succeeded prediction, brought into the store one by one.

An attempt is closed only when nothing more can be won from it: as long as a later try may help (a
store that is away, a cut download) it stays open, and the next run resumes it by id.
"""

from flux_pipeline.ledger.base import Attempt, State
from flux_pipeline.lineage.record import ImageRecord, ImageStatus
from flux_pipeline.outcomes import Polled, PollOutcome
from flux_pipeline.prediction import Output, Prediction, Status
from flux_pipeline.produce.course import Course, Stage, close
from flux_pipeline.produce.effects import Keep, KeepOutcome, Kept, NotKept, Poll, Sleep
from flux_pipeline.produce.follow import lose
from flux_pipeline.produce.report import Ending, Result

LEFT_OUT = "left out by the provider (its safety check leaves out single images)"


def collect(course: Course, attempt: Attempt, prediction: Prediction) -> Stage[Result]:
    """Keep every output; name each that was asked for and did not come."""
    asked = course.request.outputs
    records: list[ImageRecord] = []
    open_reasons: list[str] = []
    gone = 0
    for output in prediction.outputs:
        outcome, prediction = yield from _keep(course, attempt, prediction, output)
        match outcome:
            case Kept(record, thumbnail):
                records.append(record)
                course.thumbnail = course.thumbnail or thumbnail
            case NotKept(because, reason):
                if because in ("again", "store"):
                    open_reasons.append(reason)
                gone += because == "gone"
                error = f"paid, not stored: {reason}"
                records.append(
                    course.record(output.index, ImageStatus.FAILED, error, attempt, prediction)
                )
    came = {output.index for output in prediction.outputs}
    records += [
        course.record(index, ImageStatus.REFUSED, LEFT_OUT, attempt, prediction)
        for index in range(asked)
        if index not in came
    ]
    if open_reasons:
        reason = (
            f"prediction {prediction.id or '(no id)'}: {'; '.join(open_reasons)};"
            " it is paid and kept by id, the next run resumes it"
        )
        return course.end(Ending.FAILED, records, reason)
    if gone == len(prediction.outputs):
        return (yield from lose(course, attempt, "its outputs were gone before they were stored"))
    stored = any(record.status is ImageStatus.STORED for record in records)
    errors = "; ".join(dict.fromkeys(record.error for record in records if record.error))
    state = State.STORED if stored else State.FAILED
    yield from close(attempt, state, error=errors or None, records=tuple(records))
    return course.end(Ending.STORED if stored else Ending.FAILED, records, errors)


def _keep(
    course: Course, attempt: Attempt, prediction: Prediction, output: Output
) -> Stage[tuple[KeepOutcome, Prediction]]:
    """Try one output until it is kept, or nothing helps within this run."""
    asked_again = False
    failures = 0
    while True:
        outcome: KeepOutcome = yield Keep(attempt, prediction, output, course.polls)
        if isinstance(outcome, Kept):
            return outcome, prediction
        failures += 1
        if outcome.because == "gone":
            if asked_again or prediction.id is None:
                return outcome, prediction
            asked_again = True
            answer: PollOutcome = yield Poll(prediction.id)
            course.polls += 1
            if not isinstance(answer, Polled) or answer.prediction.status is not Status.SUCCEEDED:
                return outcome, prediction
            fresh = {each.index: each for each in answer.prediction.outputs}
            if output.index not in fresh:
                return outcome, prediction
            prediction, output = answer.prediction, fresh[output.index]
        elif failures >= course.policy.keep_tries:
            return outcome, prediction
        else:
            yield Sleep(course.policy.wait_after(failures))
