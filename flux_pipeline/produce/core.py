"""The one algorithm, sans I/O: what to do for one request, whatever happened before.

An open intent always means that a POST may be under way: it is written last before the POST and
closed or accepted first after it. So whoever finds one open, and may take it over, settles it
with the provider before anything is sent again.
"""

import re
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, TypeVar

from flux_pipeline.ledger.base import Attempt, Busy, Claim, Claimed, Over, OverBudget, State
from flux_pipeline.ledger.codec import load_prediction
from flux_pipeline.lineage.record import ImageRecord, ImageStatus
from flux_pipeline.outcomes import (
    Absent,
    Accepted,
    AccessDenied,
    Ambiguous,
    CreateOutcome,
    FindOutcome,
    Found,
    Gone,
    ListFailed,
    NeverSent,
    NoList,
    Polled,
    PollFailed,
    PollOutcome,
    Refused,
    Throttled,
)
from flux_pipeline.prediction import Output, Prediction, Status
from flux_pipeline.produce.budgets import over_budget
from flux_pipeline.produce.effects import (
    AwaitPermit,
    AwaitPoll,
    Cancel,
    ClaimAttempt,
    Close,
    Effect,
    FindInList,
    NotStored,
    Poll,
    ReadHistory,
    RenewClaim,
    Send,
    Sleep,
    Stored,
    StoreOutcome,
    StoreOutput,
    TakeResend,
    WriteAccepted,
    WriteFound,
    WriteSucceeded,
)
from flux_pipeline.produce.policy import Policy, RunContext, status_of
from flux_pipeline.produce.records import build_record
from flux_pipeline.produce.report import Result, ResultStatus, Stop
from flux_pipeline.request import Request

T = TypeVar("T")
Stage: TypeAlias = Generator[Effect, Any, T]
"""Yields effects, takes their outcomes, returns T."""
Step: TypeAlias = Prediction | Attempt | Result
"""Where a stage leaves off: with a prediction to go on with, with an attempt (as this worker knows
it) after which the claim is decided anew, or at the end."""

LEFT_OUT = "left out by the provider (its safety check leaves out single images)"
Verdict = Literal["transient", "refused", "permanent"]

# The codes that the provider documents as its own trouble, not the input's.
_TRANSIENT = re.compile(r"\(?code: ?PA\)?|\b(?:E9828|E6716|E8765|E9243|E1001)\b")
_FILTERED = re.compile(r"NSFW content detected", re.IGNORECASE)


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
    context = RequestContext(request, run, policy, clock, begun_at=clock())
    while True:
        ended = _over(context, latest, load_records)
        if ended is not None:
            return ended
        asked_at, claim = yield from _claim(context, latest)
        match claim:
            case OverBudget():
                reason = over_budget(claim, request.cost_usd)
                return context.fail(reason, stop=Stop.of_budget(claim.scope))
            case Busy():
                yield Sleep(min(claim.seconds, policy.busy_interval))
            case Over():
                latest = claim.attempt
            case Claimed():
                step = yield from _advance(context, claim, asked_at)
                if isinstance(step, Result):
                    return step
                latest = step


@dataclass(slots=True)
class RequestContext:
    """What the stages of one request know and count."""

    request: Request
    run: RunContext
    policy: Policy
    clock: Callable[[], float]
    """Monotonic seconds; never the wall clock, which jumps."""
    begun_at: float
    created: int = 0
    polls: int = 0
    never_sent: int = 0
    transient: int = 0
    canceled: int = 0
    thumbnail: bytes = b""
    notices: list[str] = field(default_factory=list)

    def record(
        self,
        index: int,
        status: ImageStatus,
        error: str | None,
        attempt: Attempt | None = None,
        prediction: Prediction | None = None,
    ) -> ImageRecord:
        """A record for one image of this request."""
        return build_record(
            self.request,
            self.run,
            index=index,
            status=status,
            error=error,
            attempt=attempt,
            prediction=prediction,
            polls=self.polls,
        )

    def records_without_image(
        self, status: ImageStatus, error: str, attempt: Attempt | None = None
    ) -> tuple[ImageRecord, ...]:
        """A record for every image asked for, none of which exists."""
        return tuple(
            self.record(index, status, error, attempt) for index in range(self.request.outputs)
        )

    def end(
        self,
        status: ResultStatus,
        records: Iterable[ImageRecord],
        reason: str = "",
        stop: Stop | None = None,
    ) -> Result:
        """The result, with what this run created for it."""
        return Result(
            request=self.request,
            status=status,
            records=tuple(records),
            reason=reason,
            stop=stop,
            created=self.created,
            usd=self.created * self.request.cost_usd,
            thumbnail=self.thumbnail,
            notices=tuple(self.notices),
        )

    def fail(
        self, reason: str, attempt: Attempt | None = None, *, stop: Stop | None = None
    ) -> Result:
        """The result of a request that has no image, with the reason in each record."""
        records = self.records_without_image(ImageStatus.FAILED, reason, attempt)
        return self.end(ResultStatus.FAILED, records, reason, stop)


def _claim(context: RequestContext, latest: Attempt | None) -> Stage[tuple[float, Claim]]:
    """Claim the open attempt, or wait for a permit and write the intent of a new one."""
    after = 0
    if latest is None or not latest.state.is_open:
        after = latest.number if latest else 0
        yield AwaitPermit()
    asked_at = context.clock()
    claim: Claim = yield ClaimAttempt(after)
    return asked_at, claim


def _advance(context: RequestContext, claim: Claimed, asked_at: float) -> Stage[Attempt | Result]:
    """Take a claimed attempt as far as it goes: to a result, or to where another may follow."""
    attempt = claim.attempt
    if claim.fresh:
        sent = yield from _send(context, attempt, asked_at)
    elif attempt.state is State.INTENT:
        sent = yield from settle(context, attempt, sent_before=context.clock())
    else:
        sent = load_prediction(attempt.prediction_id, attempt.reply)
    if isinstance(sent, (Result, Attempt)):
        return sent
    attempt = replace(attempt, state=State.ACCEPTED, prediction_id=sent.id)
    final = yield from follow(context, attempt, sent, resumed=not claim.fresh)
    if isinstance(final, (Result, Attempt)):
        return final
    return (yield from collect(context, attempt, final))


def _send(context: RequestContext, attempt: Attempt, claimed_at: float) -> Stage[Step]:
    """POST once, and turn the answer into a prediction, a result, or an attempt to follow."""
    outcome: CreateOutcome = yield Send(
        attempt, not_after=claimed_at + context.policy.lease - context.policy.send_timeout
    )
    match outcome:
        case Accepted(prediction):
            return (yield from _accept(context, attempt, prediction))
        case Ambiguous():
            return (yield from settle(context, attempt, sent_before=context.clock()))
        case Refused(code, detail):
            reason = f"refused by the provider ({code}): {detail}; nothing was paid"
            records = context.records_without_image(ImageStatus.REFUSED, reason, attempt)
            yield from close(attempt, State.REFUSED, error=reason, records=records)
            return context.end(ResultStatus.REFUSED, records, reason)
        case AccessDenied() | NeverSent() | Throttled():
            return (yield from _unsent(context, attempt, outcome))


def _accept(context: RequestContext, attempt: Attempt, prediction: Prediction) -> Stage[Step]:
    """Write the id down; where the attempt had been given up meanwhile, the claim decides anew."""
    context.created += 1
    state: State = yield WriteAccepted(attempt, prediction)
    if state is State.DUPLICATE:
        context.notices.append(f"paid twice: prediction {prediction.id} came after it was given up")
        return attempt
    return prediction


def _unsent(
    context: RequestContext, attempt: Attempt, outcome: AccessDenied | NeverSent | Throttled
) -> Stage[Step]:
    """Nothing was accepted: give the reservation back, and try again where that may help."""
    closed = yield from close(attempt, State.UNSENT, resolution=type(outcome).__name__)
    match outcome:
        case AccessDenied(code, detail):
            reason = f"not sent: the provider answered {code}: {detail}"
            return context.fail(reason, stop=Stop.of_denial(code))
        case NeverSent(reason):
            context.never_sent += 1
            if context.never_sent >= context.policy.never_sent_tries:
                return context.fail(f"not sent: {reason}; nothing was paid")
            yield Sleep(context.policy.wait_after(context.never_sent))
        case Throttled():  # the limiter has slowed down: the next permit waits
            if context.clock() - context.begun_at > context.policy.deadline:
                return context.fail("not sent: the provider answered 429 until our deadline")
    return closed


def _over(
    context: RequestContext,
    latest: Attempt | None,
    load_records: Callable[[str], Sequence[ImageRecord]],
) -> Result | None:
    """What a closed attempt means for this run; None where there is something to do."""
    status = status_of(latest, context.policy) if latest is not None else None
    if latest is not None and status is not None:
        return context.end(status, load_records(latest.images), latest.error or "")
    if not context.policy.may_create and (latest is None or not latest.state.is_open):
        return context.fail("not sent: a rescue finishes what was accepted, and no more")
    return None


def close(
    attempt: Attempt,
    state: State,
    *,
    error: str | None = None,
    retryable: bool = False,
    records: tuple[ImageRecord, ...] = (),
    resolution: str | None = None,
) -> Stage[Attempt]:
    """Close an attempt, and return it as this worker then knows it.

    Where it was no longer ours to close it comes back open, so that the claim decides anew: to take
    it for closed would let a second create follow one that somebody else has finished.
    """
    closed: bool = yield Close(attempt, state, error, retryable, records, resolution)
    return replace(attempt, state=state, retryable=retryable) if closed else attempt


def settle(context: RequestContext, attempt: Attempt, *, sent_before: float) -> Stage[Step]:
    """Find out what became of a POST without an answer.

    ``sent_before`` is the monotonic time after which nothing of it can be sent any more.
    """
    policy, failures, looks = context.policy, 0, 0
    proof_from = sent_before + policy.visibility
    age = attempt.claimed_at - attempt.intent_at  # below 0: a clock was set, so it proves nothing
    remembered = 0 <= age < policy.list_reach - policy.visibility
    while True:
        begun = context.clock()
        outcome: FindOutcome = yield FindInList(attempt)
        match outcome:
            case Found(prediction):
                ours: bool = yield WriteFound(attempt, prediction)
                return prediction if ours else attempt
            case Absent() if remembered and begun < proof_from:
                failures = 0
                looks += 1  # a late list may show it any moment: the slot is free the sooner
                wait = min(proof_from - context.clock(), policy.wait_after(looks))
            case ListFailed(_, retry_after) if (
                begun <= proof_from + policy.settle_patience or failures + 1 < policy.list_tries
            ):
                failures += 1
                wait = max(retry_after, policy.wait_after(failures))
            case _:
                return (yield from _conclude(context, attempt, outcome, remembered=remembered))
        if not (yield from _wait(attempt, wait, policy)):
            return attempt


def _conclude(
    context: RequestContext, attempt: Attempt, outcome: FindOutcome, *, remembered: bool
) -> Stage[Step]:
    """Nothing more is to be learnt from the list."""
    match outcome:
        case Absent() if remembered:
            absent = "absent from the provider's list"
            return (yield from close(attempt, State.UNSENT, resolution=absent))
        case AccessDenied(code, detail):
            reason = f"not settled: the provider answered {code}: {detail}"
            return context.fail(reason, attempt, stop=Stop.of_denial(code))
        case ListFailed(reason):
            return (yield from _hold(context, attempt, f"the list is unreadable: {reason}"))
        case NoList():
            return (yield from _unknown(context, attempt, "the provider has no list"))
        case _:
            return (yield from _unknown(context, attempt, "the provider's list has forgotten"))


def _wait(attempt: Attempt, seconds: float, policy: Policy) -> Stage[bool]:
    """Wait and keep the claim: two workers would else take it from each other before any proof."""
    while seconds > 0:
        nap = min(seconds, policy.lease / 3)
        yield Sleep(nap)
        if not (yield RenewClaim(attempt)):
            return False
        seconds -= nap
    return True


def _unknown(context: RequestContext, attempt: Attempt, why: str) -> Stage[Step]:
    """No proof can be had: send again where the policy allows it, and say so; else hold."""
    if context.policy.unknown == "hold":
        return (yield from _hold(context, attempt, why))
    history: Sequence[Attempt] = yield ReadHistory()
    if any(earlier.state is State.RESENT for earlier in history):
        return (yield from _hold(context, attempt, f"{why}, and it was sent again once already"))
    allowed: bool = yield TakeResend()
    if not allowed:
        return (yield from _hold(context, attempt, f"{why}, and this run has sent too many again"))
    closed = yield from close(attempt, State.RESENT, resolution=why)
    if closed.state is State.RESENT:
        context.notices.append(
            f"possibly paid twice: attempt {attempt.number} of"
            f" {context.request.request_sha256[:12]} had no answer and {why};"
            f" at most {context.request.cost_usd:.4f} USD"
        )
    return closed


def _hold(context: RequestContext, attempt: Attempt, why: str) -> Stage[Step]:
    reason = (
        f"held: attempt {attempt.number} may have been paid and {why};"
        " `flux-pipeline held` shows and ends it"
    )
    records = context.records_without_image(ImageStatus.FAILED, reason, attempt)
    closed = yield from close(attempt, State.HELD, error=reason, records=records)
    return context.end(ResultStatus.HELD, records, reason) if closed.state is State.HELD else closed


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
    context: RequestContext, attempt: Attempt, prediction: Prediction, *, resumed: bool
) -> Stage[Step]:
    """Poll to the end. A Prediction comes back succeeded, with its outputs."""
    watch = _Watch(accepted_at=context.clock(), renewed_at=context.clock())
    while prediction.status is not Status.SUCCEEDED or not prediction.outputs:
        if prediction.status is Status.SUCCEEDED:
            watch.empty += 1
            if prediction.data_removed or watch.empty > context.policy.gone_tries:
                return (yield from lose(context, attempt, "it succeeded without any output left"))
        elif prediction.status.is_final:
            return (yield from _failed(context, attempt, prediction))
        now = context.clock()
        if now - watch.accepted_at > context.policy.deadline:
            return (yield from _give_up(context, attempt, prediction))
        if now - watch.renewed_at > context.policy.lease / 2:
            watch.renewed_at = now
            if not (yield RenewClaim(attempt)):
                return attempt
        if watch.polls or not resumed:
            yield AwaitPoll(elapsed=now - watch.accepted_at, polls=watch.polls)
        answer = yield from _poll(context, attempt, prediction, watch)
        if isinstance(answer, Result):
            return answer
        prediction = answer
    yield WriteSucceeded(attempt, prediction)
    return prediction


def _poll(
    context: RequestContext, attempt: Attempt, prediction: Prediction, watch: _Watch
) -> Stage[Prediction | Result]:
    """Ask once. Where there is no answer, the prediction comes back as it was, after a wait."""
    outcome: PollOutcome = yield Poll(_id(prediction))
    watch.polls, context.polls = watch.polls + 1, context.polls + 1
    match outcome:
        case Polled(answer):
            watch.failures = watch.missing = 0
            return answer
        case AccessDenied(code, detail):
            reason = _kept_by_id(prediction, f"answered {code}: {detail}")
            return context.fail(reason, attempt, stop=Stop.of_denial(code))
        case Gone(reason):
            watch.missing += 1
            if watch.missing > context.policy.gone_tries:
                return (yield from lose(context, attempt, f"the provider lost it: {reason}"))
            yield Sleep(context.policy.wait_after(watch.missing) * 2)
        case PollFailed(_, retry_after):
            watch.failures += 1
            yield Sleep(max(retry_after, context.policy.wait_after(watch.failures)))
    return prediction


def lose(context: RequestContext, attempt: Attempt, why: str) -> Stage[Result]:
    """Close what was paid and can't be had any more; it is said loudly and not paid again."""
    reason = f"paid and lost: prediction {attempt.prediction_id or '(no id)'}: {why}"
    records = context.records_without_image(ImageStatus.FAILED, reason, attempt)
    context.notices.append(reason)
    yield from close(attempt, State.EXPIRED, error=reason, records=records)
    return context.end(ResultStatus.FAILED, records, reason)


def _failed(context: RequestContext, attempt: Attempt, prediction: Prediction) -> Stage[Step]:
    """An end without success: again where it may help, else a record that says why."""
    if prediction.status is Status.FAILED:
        verdict = judge_failure(prediction.error)
        reason = f"prediction {prediction.id} failed: {prediction.error or 'no reason given'}"
        context.transient += 1
        again = verdict == "transient" and context.transient <= context.policy.transient_tries
    else:
        verdict = "transient"
        reason = f"prediction {prediction.id} was {prediction.status} at the provider"
        context.canceled += 1
        again = context.canceled <= context.policy.canceled_tries
    status = ImageStatus.REFUSED if verdict == "refused" else ImageStatus.FAILED
    records = tuple(
        context.record(index, status, reason, attempt, prediction)
        for index in range(context.request.outputs)
    )
    state = State.REFUSED if verdict == "refused" else State.FAILED
    retryable = verdict == "transient"
    closed = yield from close(attempt, state, error=reason, retryable=retryable, records=records)
    if again:
        return closed
    ended = ResultStatus.REFUSED if verdict == "refused" else ResultStatus.FAILED
    return context.end(ended, records, reason)


def _give_up(context: RequestContext, attempt: Attempt, prediction: Prediction) -> Stage[Step]:
    """Our deadline: cancel, confirm, and adopt it where it has succeeded meanwhile."""
    outcome: PollOutcome = yield Cancel(_id(prediction))
    if not (isinstance(outcome, Polled) and outcome.prediction.status.is_final):
        reason = f"no end within {context.policy.deadline:.0f} s, and it could not be canceled"
        return context.fail(_kept_by_id(prediction, reason), attempt)
    final = outcome.prediction
    if final.status is Status.SUCCEEDED and final.outputs:
        yield WriteSucceeded(attempt, final)
        return final
    if final.status is Status.SUCCEEDED:
        return (yield from lose(context, attempt, "it succeeded without any output until the end"))
    if final.status is Status.FAILED:
        return (yield from _failed(context, attempt, final))
    reason = (
        f"prediction {prediction.id} had not ended after {context.policy.deadline:.0f} s"
        " and was canceled; a new run tries again"
    )
    records = context.records_without_image(ImageStatus.FAILED, reason, attempt)
    yield from close(attempt, State.FAILED, error=reason, retryable=True, records=records)
    return context.end(ResultStatus.FAILED, records, reason)


def _id(prediction: Prediction) -> str:
    if prediction.id is None:  # the shape without an id is final from the start
        raise ValueError("a prediction without an id can't be polled")
    return prediction.id


def _kept_by_id(prediction: Prediction, why: str) -> str:
    return f"prediction {prediction.id}: {why}; its id is kept, the next run resumes it"


def collect(context: RequestContext, attempt: Attempt, prediction: Prediction) -> Stage[Result]:
    """Keep every output; name each that was asked for and did not come."""
    asked = context.request.outputs
    records: list[ImageRecord] = []
    open_reasons: list[str] = []
    gone = 0
    for output in prediction.outputs:
        outcome, prediction = yield from _keep(context, attempt, prediction, output)
        match outcome:
            case Stored(record, thumbnail):
                records.append(record)
                context.thumbnail = context.thumbnail or thumbnail
            case NotStored(because, reason):
                if because in ("again", "store"):
                    open_reasons.append(reason)
                gone += because == "gone"
                error = f"paid, not stored: {reason}"
                records.append(
                    context.record(output.index, ImageStatus.FAILED, error, attempt, prediction)
                )
    came = {output.index for output in prediction.outputs}
    records += [
        context.record(index, ImageStatus.REFUSED, LEFT_OUT, attempt, prediction)
        for index in range(asked)
        if index not in came
    ]
    if open_reasons:
        reason = (
            f"prediction {prediction.id or '(no id)'}: {'; '.join(open_reasons)};"
            " it is paid and kept by id, the next run resumes it"
        )
        return context.end(ResultStatus.FAILED, records, reason)
    if gone == len(prediction.outputs):
        return (yield from lose(context, attempt, "its outputs were gone before they were stored"))
    stored = any(record.status is ImageStatus.STORED for record in records)
    errors = "; ".join(dict.fromkeys(record.error for record in records if record.error))
    state = State.STORED if stored else State.FAILED
    yield from close(attempt, state, error=errors or None, records=tuple(records))
    return context.end(ResultStatus.STORED if stored else ResultStatus.FAILED, records, errors)


def _keep(
    context: RequestContext, attempt: Attempt, prediction: Prediction, output: Output
) -> Stage[tuple[StoreOutcome, Prediction]]:
    """Try one output until it is kept, or nothing helps within this run."""
    asked_again = False
    failures = 0
    while True:
        outcome: StoreOutcome = yield StoreOutput(attempt, prediction, output, context.polls)
        if isinstance(outcome, Stored):
            return outcome, prediction
        failures += 1
        if outcome.because == "gone":
            if asked_again or prediction.id is None:
                return outcome, prediction
            asked_again = True
            answer: PollOutcome = yield Poll(prediction.id)
            context.polls += 1
            if not isinstance(answer, Polled) or answer.prediction.status is not Status.SUCCEEDED:
                return outcome, prediction
            fresh = {each.index: each for each in answer.prediction.outputs}
            if output.index not in fresh:
                return outcome, prediction
            prediction, output = answer.prediction, fresh[output.index]
        elif failures >= context.policy.keep_tries:
            return outcome, prediction
        else:
            yield Sleep(context.policy.wait_after(failures))


def judge_failure(error: str | None) -> Verdict:
    """Judge by the message; a missing message is the provider's own trouble."""
    if not error:
        return "transient"
    if _FILTERED.search(error):
        return "refused"
    return "transient" if _TRANSIENT.search(error) else "permanent"
