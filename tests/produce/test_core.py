"""Decisions of the state machine that need no server: what a failure means, when outputs are over.

Whole requests are tried in ``test_producer*.py``, and all of their orders in the simulator.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from flux_pipeline.ledger.base import Attempt, Intent, State
from flux_pipeline.outcomes import Polled
from flux_pipeline.prediction import Output, Prediction, Status
from flux_pipeline.produce import effects as fx
from flux_pipeline.produce.core import RequestContext, collect, follow, judge_failure
from flux_pipeline.produce.policy import Policy, RunContext
from flux_pipeline.produce.report import Result
from tests.produce.pipeline import make_requests

MADE = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = 3600.0


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (None, "transient"),
        ("Prediction interrupted; please retry (code: PA)", "transient"),
        ("Prediction failed on a worker that went away (E8765)", "transient"),
        ("NSFW content detected. Try running it again", "refused"),
        ("CUDA out of memory. Tried to allocate 2.25 GiB", "unknown"),
        ("the worker ended with exitcode -9", "unknown"),
        ("unknown reason", "unknown"),
        ("Failed to download weights: 404 Client Error: Not Found", "unknown"),
        ("Failed to download input image: 404 Client Error: Not Found", "unknown"),
        ("Input validation error: image: could not fetch the file", "unknown"),
        ("Input validation error: lora_scale", "invalid"),
        ("num_inference_steps must be at most 4", "invalid"),
        ("the prompt is too long", "invalid"),
    ],
)
def test_a_failure_is_judged_by_its_message(error: str | None, verdict: str) -> None:
    assert judge_failure(error) == verdict


@pytest.mark.parametrize(
    ("age", "making", "state"),
    [
        (1.2 * HOUR, 60.0, State.EXPIRED),
        (1.2 * HOUR, 0.5 * HOUR, None),  # it ended half an hour later: its outputs live longer
        (1.6 * HOUR, 0.5 * HOUR, State.EXPIRED),
        (1.2 * HOUR, None, None),  # nobody says when it ended: the longest wait is added
        (1.3 * HOUR, None, State.EXPIRED),
        (30 * HOUR, 8_000 * HOUR, State.EXPIRED),  # a wrong date keeps nothing open for ever
    ],
)
def test_outputs_are_believed_to_be_gone_when_their_lifetime_since_the_end_is_over(
    age: float, making: float | None, state: State | None
) -> None:
    prediction = Prediction(id="p1", status=Status.SUCCEEDED, outputs=(Output(0, "u"),))
    if making is not None:
        done = MADE + timedelta(seconds=making)
        prediction = replace(prediction, created_at=MADE, completed_at=done)

    closed, result = collect_gone(age, prediction)

    assert closed is state
    assert (result.left_open is None) == (state is not None)


def collect_gone(age: float, prediction: Prediction) -> tuple[State | None, Result]:
    """Collect outputs that answer 404; how the attempt was closed, if it was, and the result."""
    (request,) = make_requests(1)
    intent = Intent(request.request_sha256, "set", "run", 3000, "{}")
    attempt = Attempt(request.request_sha256, 1, State.SUCCEEDED, "me", age, 0.0, intent, "p1")
    policy = Policy(gone_patience=0.0)
    context = RequestContext(request, RunContext("run"), policy, lambda: 0.0, begun_at=0.0)
    stage, outcome, closed = collect(context, attempt, prediction), None, None
    while True:
        try:
            effect = stage.send(outcome)
        except StopIteration as ended:
            return closed, ended.value
        outcome = answer(effect)
        if isinstance(effect, fx.Close):
            closed = effect.state


def answer(effect: fx.Effect) -> object:
    match effect:
        case fx.StoreOutput():
            return fx.NotStored("gone", "answered 404")
        case fx.FindImage():
            return fx.NotStored("removed", "nothing is stored")
        case _:
            return True


@pytest.mark.parametrize("resumed", [False, True])
def test_a_claim_is_renewed_while_a_poll_is_waited_for_longer_than_its_lease(
    resumed: bool,
) -> None:
    (request,) = make_requests(1)
    now = 0.0
    intent = Intent(request.request_sha256, "set", "run", 3000, "{}")
    attempt = Attempt(request.request_sha256, 1, State.ACCEPTED, "me", 50.0, 0.0, intent, "p1")
    context = RequestContext(request, RunContext("run"), Policy(), lambda: now, begun_at=0.0)
    running = Prediction(id="p1", status=Status.PROCESSING)
    stage = follow(context, attempt, running, resumed=resumed)

    seen = [next(stage)]
    if resumed:  # it may have ended long ago
        assert seen == [fx.Poll("p1")]
        seen = [stage.send(Polled(running))]
    for _ in range(4):  # the wait is cut, so that the claim can be looked at
        now += 40.0
        seen.append(stage.send(isinstance(seen[-1], fx.RenewClaim) or False))
        if isinstance(seen[-1], fx.RenewClaim):
            seen.append(stage.send(True))
    seen.append(stage.send(True))

    polls, age = int(resumed), 50.0 * resumed
    assert seen == [
        fx.AwaitPoll(0.0, polls, 0.0, age),
        fx.AwaitPoll(0.0, polls, 40.0, age),
        fx.RenewClaim(attempt),
        fx.AwaitPoll(0.0, polls, 80.0, age),
        fx.AwaitPoll(0.0, polls, 120.0, age),
        fx.RenewClaim(attempt),
        fx.AwaitPoll(0.0, polls, 160.0, age),
        fx.Poll("p1"),
    ]
