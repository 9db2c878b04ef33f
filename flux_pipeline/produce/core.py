"""The state machine of one request: claim, send, settle, follow, collect. It does no I/O itself.

``produce`` is a generator. It yields effects (``produce.effects``), is sent their outcomes, and
returns the request's result. The engine performs the effects over sockets, disks and a database;
the simulator of the tests performs the same effects on a virtual clock. The stages, in order:

    claim    take over the open attempt, or prepare the input and write the intent of a new one
    send     POST it, once
    settle   after a lost answer: find the prediction in the provider's list, or prove it absent
    follow   poll the accepted prediction by id until it ends
    collect  download and store each output, then close the attempt

An attempt in state INTENT always means that a POST may be under way: the intent is the last thing
written before the POST, and the first write after it closes or accepts the attempt. So a worker
that finds one, and may take it over, settles it before anything is sent again. Whatever
is changed here must keep that order: a crash is possible between any two effects.
"""

import re
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, TypeVar

from flux_pipeline.ledger.base import (
    Adoption,
    Attempt,
    Busy,
    Claim,
    Claimed,
    Over,
    OverBudget,
    State,
)
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
    Rejected,
    Stopped,
    Throttled,
)
from flux_pipeline.prediction import Output, Prediction, Status
from flux_pipeline.produce.budgets import over_budget
from flux_pipeline.produce.effects import (
    AwaitPermit,
    AwaitPoll,
    BringBack,
    Cancel,
    ClaimAttempt,
    Close,
    Effect,
    EndRemoval,
    FindImage,
    FindInList,
    FindStored,
    NotReady,
    NotStored,
    Poll,
    PrepareInput,
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
from flux_pipeline.produce.policy import Policy, RunContext, final_status, needs_create
from flux_pipeline.produce.records import build_record
from flux_pipeline.produce.report import LeftOpen, Result, ResultStatus, Stop
from flux_pipeline.request import Request

T = TypeVar("T")
Stage: TypeAlias = Generator[Effect, Any, T]
"""Yields effects, is sent their outcomes, returns a T."""
Step: TypeAlias = Prediction | Attempt | Result
"""How a stage ends. A Prediction: the next stage goes on with it. An Attempt, as this worker knows
it: ``produce`` decides on the claim again. A Result: the request has ended."""

_NEXT_RUN = "; the next run asks again"
_BY_HAND = "; `flux-pipeline retry` asks again"
_LONGEST_MAKING = 86_400.0  # s; a reply that says more is wrong
LEFT_OUT = "left out by the provider (its safety check leaves out single images)"
Verdict = Literal["transient", "refused", "invalid", "unknown"]

# The error codes that the provider documents as a fault of its own, not of the input.
_TRANSIENT = re.compile(r"\(?code: ?PA\)?|\b(?:E9828|E6716|E8765|E9243|E1001)\b")
_FILTERED = re.compile(r"NSFW content detected", re.IGNORECASE)
# Sentences about the input alone: the same input will fail the same way.
_UNREAD_INPUT = re.compile(
    r"(?i)\b(?:download|fetch|retriev|open|load|read|access|get)\w*\b.{0,60}"
    r"\b(?:inputs?|images?|pictures?|files?|urls?)\b|https?://"
)
"""A picture that the provider could not read, whatever else the sentence says."""
_INVALID_INPUT = re.compile(
    r"(?i)\binput validation|\bvalidation error|\binvalid (?:input|value|prompt|parameter)"
    r"|\bprompt (?:is )?(?:too long|empty|required)"
    r"|\bmust be (?:less|greater|one of|at (?:least|most))"
)


@dataclass(slots=True)
class RequestContext:
    """One request in one run: what its stages share, and what they count."""

    request: Request
    run: RunContext
    policy: Policy
    clock: Callable[[], float]
    """Monotonic seconds; never the wall clock, which jumps."""
    begun_at: float
    claimed_at: float = 0.0
    """Monotonic seconds just before the last claim."""
    created: int = 0
    """Predictions that the provider accepted, and no other run has counted."""
    polls: int = 0
    never_sent: int = 0
    """Sends of which nothing left this machine."""
    transient: int = 0
    """Predictions that failed by the provider's own fault."""
    canceled: int = 0
    """Predictions that were canceled by somebody else."""
    thumbnail: bytes = b""
    notices: list[str] = field(default_factory=list)
    """Sentences for people, such as "possibly paid twice"."""

    def record(
        self,
        index: int,
        status: ImageStatus,
        error: str | None,
        attempt: Attempt | None = None,
        prediction: Prediction | None = None,
    ) -> ImageRecord:
        """Build the record of one image of this request."""
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
        """Build a record for each image asked for where none of them exists."""
        return tuple(
            self.record(index, status, error, attempt) for index in range(self.request.outputs)
        )

    def end(
        self,
        status: ResultStatus,
        records: Iterable[ImageRecord],
        reason: str = "",
        stop: Stop | None = None,
        left_open: LeftOpen | None = None,
    ) -> Result:
        """Build the result, with what this run has created and spent for it."""
        return Result(
            request=self.request,
            status=status,
            records=tuple(records),
            reason=reason,
            stop=stop,
            left_open=left_open,
            created=self.created,
            usd=self.created * self.request.cost_usd,
            thumbnail=self.thumbnail,
            notices=tuple(self.notices),
        )

    def age(self, attempt: Attempt) -> float:
        """Seconds since the intent of a claimed attempt was written, by the ledger's clock."""
        return attempt.age + self.clock() - self.claimed_at

    def is_over(self, attempt: Attempt, prediction: Prediction) -> bool:
        """Whether the provider has deleted by its own rule what it made.

        The lifetime counts from the end, so the time of making is added: the provider's own where
        it says that, else the longest that we wait.
        """
        made = _making_seconds(prediction)
        made = self.policy.deadline if made is None else made
        return self.age(attempt) > made + self.policy.output_lifetime

    def left_open(
        self,
        attempt: Attempt,
        prediction: Prediction,
        why: str,
        records: Iterable[ImageRecord] | None = None,
    ) -> Result:
        """Build the result of what is paid and not stored yet; the next run goes on with it."""
        made = _making_seconds(prediction) or 0.0
        seconds = made + self.policy.output_lifetime - self.age(attempt)
        left = LeftOpen(prediction.id or "(no id)", why, seconds)
        reason = str(left)
        if records is None:
            records = self.records_without_image(ImageStatus.FAILED, reason, attempt)
        return self.end(ResultStatus.FAILED, records, reason, left_open=left)

    def fail(
        self, reason: str, attempt: Attempt | None = None, *, stop: Stop | None = None
    ) -> Result:
        """Build the result of a request without any image; each record gives the reason."""
        records = self.records_without_image(ImageStatus.FAILED, reason, attempt)
        return self.end(ResultStatus.FAILED, records, reason, stop)


def _making_seconds(prediction: Prediction) -> float | None:
    """From the create to the end by the provider's own clock; None where it does not say."""
    created, completed = prediction.created_at, prediction.completed_at
    if created is None or completed is None:
        return None
    try:
        return min(max((completed - created).total_seconds(), 0.0), _LONGEST_MAKING)
    except TypeError:  # one of them has no time zone
        return None


def produce(
    request: Request,
    *,
    latest: Attempt | None,
    run: RunContext,
    policy: Policy,
    clock: Callable[[], float],
    load_records: Callable[[str], Sequence[ImageRecord]],
) -> Stage[Result]:
    """Bring one request to its end: yields effects, is sent outcomes, returns the result.

    Whatever interrupts it, running it again with the ledger's latest attempt finishes what was
    begun: what was accepted is resumed by id, what may have been accepted is settled first, and
    what has ended costs nothing. ``latest`` may be stale, because the claim is decided in the
    ledger; ``clock`` gives monotonic seconds; ``load_records`` reads an attempt's ``images``.
    """
    context = RequestContext(request, run, policy, clock, begun_at=clock())
    while True:
        ended = _ended_before(context, latest, load_records)
        if ended is not None:
            return ended
        answer = yield from claim(context, latest)
        match answer:
            case Stopped():
                return context.fail(f"not sent: {answer.reason}", stop=Stop(answer.kind))
            case NotReady(reason):
                return context.fail(f"not sent: {reason}")
            case OverBudget():
                reason = over_budget(answer, request.cost_usd)
                return context.fail(reason, stop=Stop.of_budget(answer.scope))
            case Busy():  # another worker holds it: wait for its result, or for its lease to end
                yield Sleep(min(answer.seconds, policy.busy_interval))
            case Over():  # another worker has ended it since ``latest`` was read
                latest = answer.attempt
            case Claimed():
                step = yield from _advance(context, answer)
                if isinstance(step, Result):
                    return step
                latest = step


def _ended_before(
    context: RequestContext,
    latest: Attempt | None,
    load_records: Callable[[str], Sequence[ImageRecord]],
) -> Result | None:
    """Give the result of a request that needs nothing in this run; None where it needs work."""
    status = final_status(latest, context.policy)
    if latest is not None and status is not None:
        return context.end(status, load_records(latest.images), latest.error or "")
    if needs_create(latest) and not context.policy.may_create:
        if latest is not None and latest.state is State.PRUNED:  # by a worker that is gone
            return context.end(ResultStatus.UNCHANGED, load_records(latest.images))
        return context.fail("not sent: a rescue finishes what was accepted, and no more")
    return None


def _advance(context: RequestContext, claim: Claimed) -> Stage[Attempt | Result]:
    """Run the stages after the claim, until the request has ended or must be claimed again."""
    attempt = claim.attempt
    if claim.fresh:
        step = yield from send(context, attempt)
    elif attempt.state is State.PRUNING:
        ended: Attempt | NotReady = yield EndRemoval(attempt)
        return ended if isinstance(ended, Attempt) else context.fail(ended.reason)
    elif attempt.state is State.INTENT:
        stopped: Stopped | None = yield FindStored()
        if stopped is not None and stopped.kind == Stop.LEDGER:
            return context.fail(f"not settled: {stopped.reason}", attempt, stop=Stop(stopped.kind))
        # Its last holder is gone, but may have sent it a moment ago.
        step = yield from settle(context, attempt, sent_before=context.clock())
    else:
        step = load_prediction(attempt.prediction_id, attempt.reply)
    if isinstance(step, (Result, Attempt)):
        return step
    attempt = replace(attempt, state=State.ACCEPTED, prediction_id=step.id)
    final = yield from follow(context, attempt, step, resumed=not claim.fresh)
    if isinstance(final, (Result, Attempt)):
        return final
    return (yield from collect(context, attempt, final))


def claim(context: RequestContext, latest: Attempt | None) -> Stage[Claim | Stopped | NotReady]:
    """Claim the open attempt, or prepare the input and write the intent of a new one.

    Stopped: this run creates nothing more. NotReady: not this request, because its input is not
    complete. In both cases no intent was written.
    """
    after = 0
    if needs_create(latest):
        after = latest.number if latest else 0
        if latest is not None and latest.state is State.PRUNED:
            back: Attempt | NotReady | str | None = yield BringBack(latest)
            if isinstance(back, Attempt):
                return Over(back)
            if isinstance(back, NotReady):
                return back
            if back:
                context.notices.append(f"made again, because its archived copy is gone: {back}")
        # A ledger that was restored from a backup may have forgotten what is stored.
        stopped: Stopped | None = yield FindStored()
        if stopped is not None:
            return stopped
        # Before the permit, because an upload takes its time, and a permit is to be used at once.
        not_ready: NotReady | None = yield PrepareInput()
        stopped_or_not_ready = not_ready or (yield AwaitPermit())
        if stopped_or_not_ready is not None:
            return stopped_or_not_ready
    # Before the claim, because its lease can't end earlier than counted from here.
    context.claimed_at = context.clock()
    answer: Claim = yield ClaimAttempt(after)
    return answer


def send(context: RequestContext, attempt: Attempt) -> Stage[Step]:
    """POST once, and turn the answer into the next step."""
    # Not so late that the lease could end under the POST: another worker would settle too early.
    policy = context.policy
    outcome: CreateOutcome = yield Send(
        attempt, not_after=context.claimed_at + policy.lease - policy.send_timeout
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
        case AccessDenied() | Rejected() | Stopped() | NeverSent() | Throttled():
            return (yield from _not_sent(context, attempt, outcome))


def _accept(context: RequestContext, attempt: Attempt, prediction: Prediction) -> Stage[Step]:
    """Write the id before anything else happens.

    Where another worker had given the attempt up meanwhile, this prediction is paid for twice: that
    is noted, and the claim is decided again. So it is where another take of the same input has
    adopted the prediction: then one of that take's own may be found instead.
    """
    state: State = yield WriteAccepted(attempt, prediction)
    if state is State.INTENT:
        return attempt
    context.created += 1
    if state is State.DUPLICATE:
        context.notices.append(f"paid twice: prediction {prediction.id} came after it was given up")
        return attempt
    return prediction


def _not_sent(
    context: RequestContext,
    attempt: Attempt,
    outcome: AccessDenied | Rejected | Stopped | NeverSent | Throttled,
) -> Stage[Step]:
    """Close an attempt of which nothing was accepted; let another follow where that may help.

    Closing gives the budget's reservation back.
    """
    closed = yield from close(attempt, State.UNSENT, resolution=type(outcome).__name__)
    match outcome:
        case AccessDenied(code, detail):
            reason = f"not sent: the provider answered {code}: {detail}"
            return context.fail(reason, stop=Stop.of_denial(code))
        case Rejected(code, detail):
            reason = f"not sent: the provider answered {code}: {detail}"
            return context.fail(reason, stop=Stop.REJECTED)
        case Stopped(kind, reason):
            return context.fail(f"not sent: {reason}", stop=Stop(kind))
        case NeverSent(reason):
            context.never_sent += 1
            if context.never_sent >= context.policy.never_sent_tries:
                return context.fail(f"not sent: {reason}; nothing was paid")
            yield Sleep(context.policy.wait_after(context.never_sent))
        case Throttled():  # no sleep here: the limiter has slowed down, and the next permit waits
            if context.clock() - context.begun_at > context.policy.deadline:
                return context.fail("not sent: the provider answered 429 until our deadline")
    return closed


def settle(context: RequestContext, attempt: Attempt, *, sent_before: float) -> Stage[Step]:
    """Settle a lost create: look in the provider's list for what became of a POST without answer.

    Found: it is followed by id. Proven absent: another attempt may follow. Neither: ``_conclude``.
    ``sent_before`` is the monotonic time after which nothing of the POST can be sent any more.

    To believe an early list pays twice, because new predictions show up late in it. So absence
    is a proof only in a reading that was begun ``visibility`` seconds after ``sent_before``, and
    only while the list still reaches back to the intent.

    Takes of one input, of a model without a seed, can't be told apart in the list: any prediction
    of that input which nobody holds will do, as long as each take ends with one. They take the
    oldest, and only from a reading that would be a proof of absence. Then whatever a take leaves to
    the one whose prediction it has adopted was made later than that, and shows already; so that one
    will find it, and nothing that was paid for is left over.
    """
    policy, failures, looks = context.policy, 0, 0
    is_unique = context.request.seed is not None
    proof_from = sent_before + policy.visibility
    # Below 0 a wall clock was set back, and nothing can be proven.
    remembered = 0 <= attempt.age < policy.list_reach - policy.visibility
    while True:
        begun = context.clock()
        outcome: FindOutcome = yield FindInList(attempt)
        match outcome:
            case Found(prediction) if is_unique or (remembered and begun >= proof_from):
                adoption: Adoption = yield WriteFound(attempt, prediction)
                if adoption is not Adoption.TAKEN:
                    context.created += adoption is Adoption.ADOPTED
                    return attempt if adoption is Adoption.NOT_OURS else prediction
                failures = 0
                wait = policy.wait_after(1)
            case Absent() | Found() if remembered and begun < proof_from:
                failures = 0
                looks += 1  # looked for often: the sooner it shows, the sooner this slot is free
                wait = min(proof_from - context.clock(), policy.wait_after(looks))
            case ListFailed(_, retry_after) if (
                begun <= proof_from + policy.settle_patience or failures + 1 < policy.list_tries
            ):
                failures += 1
                wait = max(retry_after, policy.wait_after(failures))
            case _:
                return (yield from _conclude(context, attempt, outcome, remembered=remembered))
        if not (yield from _sleep_and_renew(attempt, wait, policy)):
            return attempt


def _conclude(
    context: RequestContext, attempt: Attempt, outcome: FindOutcome, *, remembered: bool
) -> Stage[Step]:
    """End a settlement on the list's last word: absent, or no proof can be had."""
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
            return (yield from _resend_or_hold(context, attempt, "the provider has no list"))
        case _:
            return (
                yield from _resend_or_hold(context, attempt, "the provider's list has forgotten")
            )


def _sleep_and_renew(attempt: Attempt, seconds: float, policy: Policy) -> Stage[bool]:
    """Sleep, and renew the claim meanwhile; False where it is no longer ours.

    Where the proof takes longer than the lease, two workers would otherwise take the attempt from
    each other for ever, and none would reach the proof.
    """
    while seconds > 0:
        nap = min(seconds, policy.lease / 3)
        yield Sleep(nap)
        if not (yield RenewClaim(attempt)):
            return False
        seconds -= nap
    return True


def _resend_or_hold(context: RequestContext, attempt: Attempt, why: str) -> Stage[Step]:
    """Where no proof can be had: send again if the policy allows it, and say so; else hold.

    A request is sent again once in its life, and a run sends only so many again.
    """
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
    """Close the attempt as held: a person decides whether it is sent again."""
    reason = (
        f"held: attempt {attempt.number} may have been paid and {why};"
        " `flux-pipeline held` shows and ends it"
    )
    records = context.records_without_image(ImageStatus.FAILED, reason, attempt)
    closed = yield from close(attempt, State.HELD, error=reason, records=records)
    return context.end(ResultStatus.HELD, records, reason) if closed.state is State.HELD else closed


@dataclass(slots=True)
class _PollState:
    """Times (monotonic seconds) and counts while one prediction is followed."""

    accepted_at: float
    renewed_at: float
    age: float = 0.0
    """How long ago it had been sent when an earlier run's was taken over."""
    polls: int = 0
    failures: int = 0
    """Polls in a row without an answer."""
    missing: int = 0
    """Polls in a row that answered 404, or showed success without any output."""
    missing_since: float | None = None

    def is_missing_for(self, now: float) -> float:
        """Count one more such poll; return for how many seconds there have been no others."""
        self.missing += 1
        self.missing_since = now if self.missing_since is None else self.missing_since
        return now - self.missing_since

    def is_there(self) -> None:
        """Note a poll that shows the prediction."""
        self.missing, self.missing_since = 0, None


def follow(
    context: RequestContext, attempt: Attempt, prediction: Prediction, *, resumed: bool
) -> Stage[Step]:
    """Poll an accepted prediction until it ends; it is never created again meanwhile.

    A Prediction that is returned has succeeded, has outputs, and is written down.
    """
    age = max(attempt.age, 0.0) if resumed else 0.0
    polling = _PollState(accepted_at=context.clock(), renewed_at=context.clock(), age=age)
    while prediction.status is not Status.SUCCEEDED or not prediction.outputs:
        ended = yield from _end_without_outputs(context, attempt, prediction, polling)
        if ended is not None:
            return ended
        if context.clock() - polling.accepted_at > context.policy.deadline:
            return (yield from _cancel_overdue(context, attempt, prediction))
        # One of an earlier run may have ended long ago.
        is_due = resumed and not polling.polls
        if not (yield from _keep_until_poll(context, attempt, polling, is_due=is_due)):
            return attempt
        answer = yield from _poll(context, attempt, prediction, polling)
        if isinstance(answer, Result):
            return answer
        prediction = answer
    yield WriteSucceeded(attempt, prediction)
    return prediction


def _keep_until_poll(
    context: RequestContext, attempt: Attempt, polling: _PollState, *, is_due: bool
) -> Stage[bool]:
    """Wait until the next poll is due, and renew the claim; False where it is no longer ours."""
    begun = context.clock()
    elapsed = begun - polling.accepted_at
    while True:
        now = context.clock()
        if now - polling.renewed_at > context.policy.lease / 2:
            polling.renewed_at = now
            if not (yield RenewClaim(attempt)):
                return False
        if is_due:
            return True
        waited = now - begun
        if (yield AwaitPoll(elapsed, polling.polls, waited, polling.age)) is not False:
            return True


def _end_without_outputs(
    context: RequestContext, attempt: Attempt, prediction: Prediction, polling: _PollState
) -> Stage[Attempt | Result | None]:
    """End what has failed, or has succeeded and shows no output; None where it is polled on."""
    if prediction.status is not Status.SUCCEEDED:
        if not prediction.status.is_final:
            return None
        return (yield from _end_failed(context, attempt, prediction))
    why = "it succeeded without any output left"
    if prediction.data_removed:
        return (yield from _lose(context, attempt, prediction, why))
    if polling.is_missing_for(context.clock()) > context.policy.gone_patience:
        return (yield from _lose_or_leave(context, attempt, prediction, why))
    return None


def _poll(
    context: RequestContext, attempt: Attempt, prediction: Prediction, polling: _PollState
) -> Stage[Prediction | Result]:
    """Poll once. Without an answer the prediction is returned as it was, after a wait."""
    outcome: PollOutcome = yield Poll(_id_of(prediction))
    polling.polls, context.polls = polling.polls + 1, context.polls + 1
    match outcome:
        case Polled(answer):
            polling.failures = 0
            if answer.outputs or answer.status is not Status.SUCCEEDED:
                polling.is_there()
            return answer
        case AccessDenied(code, detail):
            reason = _resumable_reason(prediction, f"answered {code}: {detail}")
            return context.fail(reason, attempt, stop=Stop.of_denial(code))
        case Gone(reason):
            if polling.is_missing_for(context.clock()) > context.policy.gone_patience:
                why = f"the provider does not know it: {reason}"
                return (yield from _lose_or_leave(context, attempt, prediction, why))
            yield Sleep(context.policy.wait_after(polling.missing) * 2)
        case PollFailed(_, retry_after):
            polling.failures += 1
            yield Sleep(max(retry_after, context.policy.wait_after(polling.failures)))
    return prediction


def _lose_or_leave(
    context: RequestContext, attempt: Attempt, prediction: Prediction, why: str
) -> Stage[Result]:
    """Believe that something paid is gone only when its lifetime is over; leave it open before.

    A 404 may pass: proxies, replicas that lag and deployments answer with it for minutes.
    """
    if context.is_over(attempt, prediction):
        return (yield from _lose(context, attempt, prediction, why))
    return context.left_open(attempt, prediction, why)


def _lose(
    context: RequestContext, attempt: Attempt, prediction: Prediction, why: str
) -> Stage[Result]:
    """End what was paid and can't be had any more, except for what the store holds of it.

    An earlier run may have stored an image and died, or have waited for another image.
    """
    records: list[ImageRecord] = []
    for index in range(context.request.outputs):
        found: StoreOutcome = yield FindImage(attempt, prediction, index, context.polls)
        match found:
            case Stored(record):
                records.append(record)
            case NotStored("store", problem):
                return context.left_open(attempt, prediction, problem)
            case NotStored():
                reason = _lost_reason(attempt, why)
                records.append(context.record(index, ImageStatus.FAILED, reason, attempt))
    lost = sum(record.status is ImageStatus.FAILED for record in records)
    if lost == len(records):
        return (yield from _expire(context, attempt, why))
    if lost:
        context.notices.append(_lost_reason(attempt, why))
    errors = "; ".join(dict.fromkeys(record.error for record in records if record.error))
    yield from close(attempt, State.STORED, error=errors or None, records=tuple(records))
    return context.end(ResultStatus.STORED, records, errors)


def _expire(context: RequestContext, attempt: Attempt, why: str) -> Stage[Result]:
    """Close an attempt that was paid and whose images can't be had; a notice says so.

    It is not paid again, unless ``Policy.remake_expired`` asks for that.
    """
    reason = _lost_reason(attempt, why)
    records = context.records_without_image(ImageStatus.FAILED, reason, attempt)
    context.notices.append(reason)
    yield from close(attempt, State.EXPIRED, error=reason, records=records)
    return context.end(ResultStatus.FAILED, records, reason)


def _lost_reason(attempt: Attempt, why: str) -> str:
    return (
        f"paid and lost: prediction {attempt.prediction_id or '(no id)'}: {why};"
        " `flux-pipeline rescue --expired` looks for it again"
    )


def _end_failed(
    context: RequestContext, attempt: Attempt, prediction: Prediction
) -> Stage[Attempt | Result]:
    """Close an attempt whose prediction failed or was canceled; another may follow if it helps."""
    if prediction.status is Status.FAILED:
        verdict = judge_failure(prediction.error)
        reason = f"prediction {prediction.id} failed: {prediction.error or 'no reason given'}"
        context.transient += 1
        retryable = verdict == "transient"
        if verdict == "unknown":
            retryable = yield from _may_fail_again(context)
            reason += _NEXT_RUN if retryable else _BY_HAND
        again = verdict == "transient" and context.transient <= context.policy.transient_tries
    else:
        verdict, retryable = "transient", True
        reason = f"prediction {prediction.id} was {prediction.status} at the provider"
        context.canceled += 1
        again = context.canceled <= context.policy.canceled_tries
    status = ImageStatus.REFUSED if verdict == "refused" else ImageStatus.FAILED
    records = tuple(
        context.record(index, status, reason, attempt, prediction)
        for index in range(context.request.outputs)
    )
    state = State.REFUSED if verdict == "refused" else State.FAILED
    closed = yield from close(attempt, state, error=reason, retryable=retryable, records=records)
    if again:
        return closed
    ended = ResultStatus.REFUSED if verdict == "refused" else ResultStatus.FAILED
    return context.end(ended, records, reason)


def _may_fail_again(context: RequestContext) -> Stage[bool]:
    """Say whether a next run may ask again for what has failed without a known reason.

    Out of memory, a killed process or weights that were missing are mended upstream, so the request
    stays open; but not without an end, because some providers charge for failures.
    """
    history: Sequence[Attempt] = yield ReadHistory()
    failed = 1 + sum(each.state is State.FAILED for each in history)
    return failed < context.policy.failed_tries


def judge_failure(error: str | None) -> Verdict:
    """Say what a failed prediction's message means.

    ``transient``: the provider's own fault by its codes, tried again at once; ``refused``: a
    content filter; ``invalid``: the input's own fault, which will fail again; ``unknown``: a next
    run asks again. A missing message counts as a fault of the provider.
    """
    if not error:
        return "transient"
    if _FILTERED.search(error):
        return "refused"
    if _TRANSIENT.search(error):
        return "transient"
    is_invalid = _INVALID_INPUT.search(error) and not is_unread_input(error)
    return "invalid" if is_invalid else "unknown"


def is_unread_input(error: str | None) -> bool:
    """Whether a prediction seems to have failed because an address in its input was not read.

    It may have ended between the create and the start: the next run sends a new one.
    """
    return error is not None and _UNREAD_INPUT.search(error) is not None


def _cancel_overdue(
    context: RequestContext, attempt: Attempt, prediction: Prediction
) -> Stage[Step]:
    """Cancel a prediction past our deadline, and end by its state after that.

    It may have succeeded meanwhile: then its images are collected. Without a confirmation it stays
    open, because it may still be charged.
    """
    outcome: PollOutcome = yield Cancel(_id_of(prediction))
    if not (isinstance(outcome, Polled) and outcome.prediction.status.is_final):
        reason = f"no end within {context.policy.deadline:.0f} s, and it could not be canceled"
        return context.fail(_resumable_reason(prediction, reason), attempt)
    final = outcome.prediction
    if final.status is Status.SUCCEEDED and final.outputs:
        yield WriteSucceeded(attempt, final)
        return final
    if final.status is Status.SUCCEEDED:
        why = "it succeeded without any output until the end"
        return (yield from _lose_or_leave(context, attempt, final, why))
    if final.status is Status.FAILED:
        return (yield from _end_failed(context, attempt, final))
    reason = (
        f"prediction {prediction.id} had not ended after {context.policy.deadline:.0f} s"
        " and was canceled; a new run tries again"
    )
    records = context.records_without_image(ImageStatus.FAILED, reason, attempt)
    yield from close(attempt, State.FAILED, error=reason, retryable=True, records=records)
    return context.end(ResultStatus.FAILED, records, reason)


def _id_of(prediction: Prediction) -> str:
    if prediction.id is None:  # the shape without an id is final from the start
        raise ValueError("a prediction without an id can't be polled")
    return prediction.id


def _resumable_reason(prediction: Prediction, why: str) -> str:
    return f"prediction {prediction.id}: {why}; its id is kept, the next run resumes it"


def collect(context: RequestContext, attempt: Attempt, prediction: Prediction) -> Stage[Result]:
    """Store every output, and close the attempt; each image asked for gets a record.

    The attempt is closed only when every output is stored or certainly gone. Whatever a person can
    mend (a host that is not allowed yet, a full disk) or what may pass (a 404, a damaged download)
    leaves it open, and the next run resumes it by id.
    """
    outputs = prediction.outputs
    records: list[ImageRecord] = []
    open_reasons: list[str] = []
    lost: list[str] = []
    patience_ends = context.clock() + context.policy.gone_patience
    for output in outputs:
        outcome, prediction = yield from _store_or_find(
            context, attempt, prediction, output, patience_ends
        )
        match outcome:
            case Stored(record, thumbnail):
                records.append(record)
                context.thumbnail = context.thumbnail or thumbnail
            case NotStored(because, reason):
                (lost if because == "removed" else open_reasons).append(reason)
                error = f"paid, not stored: {reason}"
                records.append(
                    context.record(output.index, ImageStatus.FAILED, error, attempt, prediction)
                )
    if open_reasons:
        return context.left_open(attempt, prediction, "; ".join(open_reasons), records)
    if len(lost) == len(outputs):
        why = f"its outputs were gone before they were stored: {lost[0]}"
        return (yield from _expire(context, attempt, why))
    delivered = {output.index for output in outputs}
    records += [
        context.record(index, ImageStatus.REFUSED, LEFT_OUT, attempt, prediction)
        for index in range(context.request.outputs)
        if index not in delivered
    ]
    if lost:
        context.notices.append(_lost_reason(attempt, "; ".join(lost)))
    errors = "; ".join(dict.fromkeys(record.error for record in records if record.error))
    yield from close(attempt, State.STORED, error=errors or None, records=tuple(records))
    return context.end(ResultStatus.STORED, records, errors)


def _store_or_find(
    context: RequestContext,
    attempt: Attempt,
    prediction: Prediction,
    output: Output,
    patience_ends: float,
) -> Stage[tuple[StoreOutcome, Prediction]]:
    """Store one output; where it is gone for good, find what an earlier run has stored of it.

    The outcome is ``removed`` only where the output can't be had any more and is not in the store.
    """
    outcome, prediction = yield from _store_output(
        context, attempt, prediction, output, patience_ends
    )
    match outcome:
        case NotStored("removed", reason):
            pass
        case NotStored("gone", reason) if context.is_over(attempt, prediction):
            pass
        case _:
            return outcome, prediction
    found: StoreOutcome = yield FindImage(attempt, prediction, output.index, context.polls)
    is_known = isinstance(found, Stored) or found.because == "store"
    return found if is_known else NotStored("removed", reason), prediction


def _store_output(
    context: RequestContext,
    attempt: Attempt,
    prediction: Prediction,
    output: Output,
    patience_ends: float,
) -> Stage[tuple[StoreOutcome, Prediction]]:
    """Try one output until it is stored, or nothing helps within this run.

    Where its URL answers 403 or 404, a poll asks for a new one: so the prediction that is returned
    may be newer. Files also show up some seconds late, so both are tried until ``patience_ends``.
    """
    failures = 0
    while True:
        tries_left = context.policy.store_tries - failures - 1
        is_patient = context.clock() < patience_ends
        outcome: StoreOutcome = yield StoreOutput(
            attempt, prediction, output, context.polls, tries_left, is_patient
        )
        if isinstance(outcome, Stored):
            return outcome, prediction
        failures += 1
        match outcome.because:
            case "refused":  # by our own settings: only a person can change that
                return outcome, prediction
            case "gone":
                prediction = yield from _ask_for_new_urls(context, prediction)
                fresh = {each.index: each for each in prediction.outputs}
                if prediction.data_removed and output.index not in fresh:
                    return NotStored("removed", outcome.reason), prediction
                is_new = output.index in fresh and fresh[output.index] != output
                output = fresh.get(output.index, output)
                if is_new and failures == 1:
                    continue
                if not is_patient:
                    return outcome, prediction
            case _ if tries_left <= 0:
                return outcome, prediction
        yield Sleep(context.policy.wait_after(failures))
        yield RenewClaim(attempt)  # another worker would only do the same once more


def _ask_for_new_urls(context: RequestContext, prediction: Prediction) -> Stage[Prediction]:
    """Poll a succeeded prediction once more; without an answer it is returned as it was."""
    if prediction.id is None:
        return prediction
    answer: PollOutcome = yield Poll(prediction.id)
    context.polls += 1
    if isinstance(answer, Polled) and answer.prediction.status is Status.SUCCEEDED:
        return answer.prediction
    return prediction


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

    Where it was no longer ours to close it comes back open, so that the claim is decided again: if
    it were taken for closed, a second create could follow one that another worker has finished.
    """
    closed: bool = yield Close(attempt, state, error, retryable, records, resolution)
    return replace(attempt, state=state, retryable=retryable) if closed else attempt
