"""What is held - may have been paid, and nothing can prove it - listed, and ended by a person."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import anyio

from flux_pipeline.audit.rescue import Rescued, finish
from flux_pipeline.audit.verify import match_of
from flux_pipeline.errors import LedgerError, ProviderError
from flux_pipeline.ledger.base import Attempt, Ledger, State
from flux_pipeline.ledger.codec import dump_reply, load_request
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
"""Listed at once, the oldest."""
_HOLDER = "held"
"""What is held belongs to nobody, so any name may close it."""
_DROPPED = "dropped by hand: it may have been paid, and is not looked for any more"
_FORCE = "`--force` adopts it all the same"


@dataclass(frozen=True, slots=True)
class Held:
    """One attempt that waits for a person."""

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


def find_held(ledger: Ledger) -> list[Held]:
    """Everything that is held, oldest first."""
    return [_read(attempt) for attempt in ledger.in_state(State.HELD, limit=MOST)]


def resend(ledger: Ledger, held: Iterable[Held]) -> list[Held]:
    """Let the next run send them again; return those that were still held.

    What they may have cost stays counted, and each counts as possibly paid twice.
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


def choose(known: Sequence[Held], names: Sequence[str]) -> tuple[list[Held], list[str]]:
    """The held requests whose fingerprints begin with the names, and the names that fit not one.

    All where no name is given.
    """
    if not names:
        return list(known), []
    chosen: dict[str, Held] = {}
    wrong = []
    for name in names:
        found = [each for each in known if each.request_sha256.startswith(name.lower())]
        if len(found) == 1:
            chosen[found[0].request_sha256] = found[0]
        else:
            wrong.append(name)
    return list(chosen.values()), wrong


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


@dataclass(frozen=True, slots=True)
class Adopted:
    """What came of it."""

    state: State
    """ACCEPTED: it is the request's own now. DUPLICATE: another one was paid too; noted."""
    rescued: Rescued
    """What came of fetching its images, which was done at once: outputs expire."""


def adopt(
    producer: Producer, request_sha256: str, prediction_id: str, *, run_id: str, force: bool = False
) -> Adopted:
    """Note that this prediction is the request's, and finish it.

    The provider must show it with the request's whole input, unless ``force`` says that the person
    knows better; it must belong to no other attempt in any case.

    Raises:
        LedgerError: There is no such request, it is under way, or the id is known already.
        ProviderError: The provider doesn't confirm it; says what it shows instead.
    """
    ledger = producer.ledger
    attempt = _waiting(request_sha256, ledger.history(request_sha256))
    if not is_id(prediction_id):
        raise ProviderError("this can't be a prediction's id: copy it from the provider's page")
    if ledger.known_ids([prediction_id]):
        raise LedgerError(f"prediction {prediction_id} is in the ledger already: nothing to adopt")
    prediction = _confirmed(producer, attempt, prediction_id, force=force)
    state = ledger.accept(attempt, prediction_id=prediction_id, reply=dump_reply(prediction))
    left = [attempt] if state is State.ACCEPTED else []
    return Adopted(state, finish(producer, left, run_id=run_id))


def _waiting(request_sha256: str, history: Sequence[Attempt]) -> Attempt:
    """The attempt whose answer this may be: the last one that never had one, else the last."""
    if not history:
        raise LedgerError(f"no request {request_sha256} in this ledger: check its fingerprint")
    if any(attempt.state is State.INTENT for attempt in history):
        raise LedgerError(
            f"request {request_sha256} is under way: wait for its run, or `flux-pipeline rescue`"
        )
    unanswered = [attempt for attempt in history if attempt.prediction_id is None]
    return (unanswered or history)[-1]


def _confirmed(
    producer: Producer, attempt: Attempt, prediction_id: str, *, force: bool
) -> Prediction:
    """The prediction as the provider shows it; only the id of it where that is enforced."""

    async def ask() -> PollOutcome:
        async with producer.open_provider() as provider:
            return await provider.poll(prediction_id)

    outcome = anyio.run(ask)
    doubt = _doubt(attempt, outcome)
    if doubt and not force:
        raise ProviderError(f"prediction {prediction_id} is not adopted: {doubt}; {_FORCE}")
    if isinstance(outcome, Polled):
        return outcome.prediction
    return Prediction(id=prediction_id, status=Status.UNKNOWN)


def _doubt(attempt: Attempt, outcome: PollOutcome) -> str:
    """Why the prediction may not be the request's; empty where it surely is."""
    match outcome:
        case Polled(prediction):
            match match_of(prediction, attempt):
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
