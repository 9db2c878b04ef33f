"""Leaves requests unfinished, as a worker does that dies after each of its steps."""

import anyio

from flux_pipeline.ledger.base import Attempt, Claimed, Intent
from flux_pipeline.ledger.codec import dump_reply, dump_request
from flux_pipeline.outcomes import Accepted
from flux_pipeline.prediction import Prediction
from flux_pipeline.request import Request
from tests.produce.pipeline import Pipeline


def create(pipeline: Pipeline, request: Request) -> Prediction:
    """Pay for a prediction behind the ledger's back."""

    async def send() -> Prediction:
        async with pipeline.producer.open_provider() as provider:
            outcome = await provider.create(request)
            assert isinstance(outcome, Accepted)
            return outcome.prediction

    return anyio.run(send)


def intend(pipeline: Pipeline, request: Request) -> Attempt:
    """Write an intent, and die."""
    attempt = _claim(pipeline, request)
    pipeline.reopen()
    return attempt


def accept(pipeline: Pipeline, request: Request) -> Prediction:
    """Pay, write the id down, and die."""
    attempt = _claim(pipeline, request)
    prediction = create(pipeline, request)
    pipeline.ledger.accept(attempt, prediction_id=prediction.id, reply=dump_reply(prediction))
    pipeline.reopen()
    return prediction


def _claim(pipeline: Pipeline, request: Request) -> Attempt:
    sha, name = request.request_sha256, request.source.prompt_set
    intent = Intent(sha, name, "run-0", 3000 * request.outputs, dump_request(request))
    claim = pipeline.ledger.claim(intent, holder="dead")
    assert isinstance(claim, Claimed)
    return claim.attempt
