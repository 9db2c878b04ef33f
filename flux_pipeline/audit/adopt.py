"""A prediction that a person found at the provider, brought home to the request that it is of."""

from collections.abc import Sequence
from dataclasses import dataclass

import anyio

from flux_pipeline.audit.recognition import match_of
from flux_pipeline.audit.rescue import Rescued, finish
from flux_pipeline.errors import LedgerError, ProviderError
from flux_pipeline.ledger.base import Attempt, State
from flux_pipeline.ledger.codec import dump_reply
from flux_pipeline.outcomes import AccessDenied, Gone, Polled, PollOutcome
from flux_pipeline.prediction import Prediction, Status
from flux_pipeline.produce.producer import Producer
from flux_pipeline.provider.listing import Match
from flux_pipeline.provider.parse import is_id

_FORCE = "`--force` adopts it all the same"


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
