"""Lists held requests and lets a person end them: adopt a prediction, resend, or drop.

A request is held where a prediction may have been accepted and paid, and neither an answer nor the
provider's list can prove it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import anyio

from flux_pipeline.audit.rescue import Rescued, finish
from flux_pipeline.audit.verify import match_of
from flux_pipeline.errors import LedgerError, ProviderError
from flux_pipeline.ledger.base import Attempt, Ledger, State
from flux_pipeline.ledger.codec import dump_reply, load_request
from flux_pipeline.ledger.uploads import SqlUploads
from flux_pipeline.lineage.record import ImageStatus, records_to_json
from flux_pipeline.outcomes import AccessDenied, Gone, Polled, PollOutcome
from flux_pipeline.prediction import Prediction, Status
from flux_pipeline.produce.policy import RunContext
from flux_pipeline.produce.producer import Producer
from flux_pipeline.produce.records import build_record
from flux_pipeline.provider.listing import Match
from flux_pipeline.provider.parse import is_id
from flux_pipeline.request import Request

MOST = 10_000
"""Held requests that are listed, the oldest."""
_HOLDER = "held"
"""A held attempt has no holder, so any name may close it."""
_DROPPED = "dropped by hand: it may have been paid, and is not looked for any more"
_FORCE = "`--force` adopts it all the same"


@dataclass(frozen=True, slots=True)
class Held:
    """One held attempt."""

    attempt: Attempt
    request: Request | None = field(repr=False)
    """None where the ledger's copy can't be read."""

    @property
    def request_sha256(self) -> str:
        """64 hex digits."""
        return self.attempt.request_sha256

    @property
    def prompt(self) -> str:
        """As it was sent."""
        return str(self.request.input.get("prompt", "")) if self.request else ""

    @property
    def since(self) -> datetime:
        """When it was sent, UTC."""
        return datetime.fromtimestamp(self.attempt.intent_at, UTC)

    @property
    def usd(self) -> float:
        """What it cost if it was accepted, by estimate."""
        return self.attempt.intent.cost_micros / 1e6


@dataclass(frozen=True, slots=True)
class Adopted:
    """The outcome of an adoption."""

    state: State
    """ACCEPTED: the prediction is the request's now. DUPLICATE: it is noted as paid besides another
    one."""
    rescued: Rescued
    """The outcome of storing its images, which is done at once, because outputs expire."""


def find_held(ledger: Ledger) -> list[Held]:
    """All held attempts, oldest first."""
    return [_read(attempt) for attempt in ledger.in_state(State.HELD, limit=MOST)]


def choose(held: Sequence[Held], names: Sequence[str]) -> tuple[list[Held], list[str]]:
    """Choose held requests by the beginning of their fingerprints; all where no name is given.

    Returns the requests, and the names that fit none or more than one.
    """
    if not names:
        return list(held), []
    chosen: dict[str, Held] = {}
    wrong = []
    for name in names:
        found = [each for each in held if each.request_sha256.startswith(name.lower())]
        if len(found) == 1:
            chosen[found[0].request_sha256] = found[0]
        else:
            wrong.append(name)
    return list(chosen.values()), wrong


def adopt(
    producer: Producer, request_sha256: str, prediction_id: str, *, run_id: str, force: bool = False
) -> Adopted:
    """Record this prediction as the request's own, and store its images.

    The provider must show it with the request's whole input, unless ``force`` is given; it must
    belong to no other attempt in any case.

    Raises:
        LedgerError: There is no such request, it is under way, or the id is known already.
        ProviderError: The provider doesn't confirm it; says what it shows instead.
    """
    ledger = producer.ledger
    history = ledger.history(request_sha256)
    for known in history:  # its own, believed to be gone: looked for by its id once more
        if known.prediction_id == prediction_id and ledger.reopen(known):
            return Adopted(State.ACCEPTED, finish(producer, [known], run_id=run_id))
    attempt = _attempt_for(request_sha256, history)
    if not is_id(prediction_id):
        raise ProviderError("this can't be a prediction's id: copy it from the provider's page")
    if ledger.known_ids([prediction_id]):
        raise LedgerError(f"prediction {prediction_id} is in the ledger already: nothing to adopt")
    prediction = _confirm(producer, attempt, prediction_id, force=force)
    state = ledger.accept(attempt, prediction_id=prediction_id, reply=dump_reply(prediction))
    left = [attempt] if state is State.ACCEPTED else []
    return Adopted(state, finish(producer, left, run_id=run_id))


def resend(ledger: Ledger, held: Iterable[Held]) -> list[Held]:
    """Let the next run send them again; return those that were still held.

    Their possible cost stays counted in the budgets, and each is reported as possibly paid twice.
    """
    return [
        each
        for each in held
        if ledger.close(
            each.attempt,
            State.RESENT,
            holder=_HOLDER,
            error="given up by hand; the next run sends it again",
            resolution="resent by hand",
        )
    ]


def drop(ledger: Ledger, held: Iterable[Held]) -> list[Held]:
    """Give them up for good, with a record for each image; return those that were still held.

    The same request is not sent again. The next run or rescue writes the records to the lineage
    table.
    """
    return [
        each
        for each in held
        if ledger.close(
            each.attempt,
            State.FAILED,
            holder=_HOLDER,
            error=_DROPPED,
            retryable=False,
            images=_records(each),
            resolution="dropped by hand",
        )
    ]


def _read(attempt: Attempt) -> Held:
    try:
        return Held(attempt, load_request(attempt.intent.request_json))
    except LedgerError:
        return Held(attempt, None)


def _records(held: Held) -> str:
    request = held.request
    if request is None:
        return "[]"
    run = RunContext(held.attempt.intent.run_id, f"{request.source.prompt_set}/images")
    return records_to_json(
        build_record(
            request,
            run,
            index=index,
            status=ImageStatus.FAILED,
            error=_DROPPED,
            attempt=held.attempt,
        )
        for index in range(request.outputs)
    )


def _attempt_for(request_sha256: str, history: Sequence[Attempt]) -> Attempt:
    """The attempt that adopts: the last one that never had an answer, else the last one."""
    if not history:
        raise LedgerError(f"no request {request_sha256} in this ledger: check its fingerprint")
    if any(attempt.state is State.INTENT for attempt in history):
        raise LedgerError(
            f"request {request_sha256} is under way: wait for its run, or `flux-pipeline rescue`"
        )
    unanswered = [attempt for attempt in history if attempt.prediction_id is None]
    return (unanswered or history)[-1]


def _confirm(
    producer: Producer, attempt: Attempt, prediction_id: str, *, force: bool
) -> Prediction:
    """The prediction as the provider shows it; with ``force`` perhaps nothing but its id."""

    async def ask() -> PollOutcome:
        async with producer.open_provider() as provider:
            return await provider.poll(prediction_id)

    outcome = anyio.run(ask)
    doubt = _doubt(attempt, outcome, SqlUploads(producer.ledger, producer.account))
    if doubt and not force:
        raise ProviderError(f"prediction {prediction_id} is not adopted: {doubt}; {_FORCE}")
    if isinstance(outcome, Polled):
        return outcome.prediction
    return Prediction(id=prediction_id, status=Status.UNKNOWN)


def _doubt(attempt: Attempt, outcome: PollOutcome, uploads: SqlUploads) -> str:
    """Why the prediction may not be the request's; empty where the provider shows that it is."""
    match outcome:
        case Polled(prediction):
            match match_of(prediction, attempt, uploads):
                case Match.OURS | Match.OTHER_VERSION:
                    return ""
                case Match.UNCLEAR:
                    return "the provider doesn't show its whole input any more"
                case Match.NO:
                    return "it was made of another input"
        case Gone(reason):
            return f"the provider doesn't know it ({reason})"
        case AccessDenied(code, detail):
            return f"the provider answered {code}: {detail}"
        case _:
            return f"the provider gave no answer ({outcome.reason})"
