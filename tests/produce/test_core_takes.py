"""Takes of one input without a seed: which prediction in the list a take may adopt, and when."""

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from flux_pipeline.ledger.base import Adoption, Attempt, Intent, State
from flux_pipeline.outcomes import Absent, Accepted, Ambiguous, Found
from flux_pipeline.prediction import Prediction, Status
from flux_pipeline.produce import effects as fx
from flux_pipeline.produce.core import RequestContext, send, settle
from flux_pipeline.produce.policy import Policy, RunContext
from flux_pipeline.request import Request
from tests.produce.pipeline import make_requests

VISIBILITY = 30.0
LISTED = Prediction(id="listed", status=Status.PROCESSING)


def make_take() -> Request:
    (request,) = make_requests(1)
    return replace(request, input={"prompt": "p"}, seed_input="")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def drive(
    stage: Generator[fx.Effect, Any, Any], clock: Clock, answers: dict[type, Sequence[object]]
) -> tuple[Any, list[tuple[float, str]]]:
    """Run a stage; its result, and what it did when. The last answer of a kind is given on."""
    left = {kind: list(outcomes) for kind, outcomes in answers.items()}
    done: list[tuple[float, str]] = []
    outcome: Any = None
    while True:
        try:
            effect = stage.send(outcome)
        except StopIteration as ended:
            return ended.value, done
        if isinstance(effect, fx.Sleep):
            clock.now += effect.seconds
        else:
            done.append((clock.now, type(effect).__name__))
        waiting = left.get(type(effect), [True])
        outcome = waiting.pop(0) if len(waiting) > 1 else waiting[0]


def begin(request: Request, *, age: float = 0.0) -> tuple[RequestContext, Attempt, Clock]:
    clock = Clock()
    intent = Intent(request.request_sha256, "set", "run", 3000, "{}", "5" * 64)
    attempt = Attempt(request.request_sha256, 1, State.INTENT, "me", age, 0.0, intent)
    policy = Policy(visibility=VISIBILITY)
    return RequestContext(request, RunContext("run"), policy, clock, begun_at=0.0), attempt, clock


@pytest.mark.parametrize("seed", [None, 7])
def test_a_take_adopts_only_when_its_own_prediction_would_show(seed: int | None) -> None:
    """Earlier it may take another one's, and leave one that the other does not see yet."""
    request = make_take()
    if seed is not None:
        request = replace(request, input={"prompt": "p", "seed": seed}, seed_input="seed")
    context, attempt, clock = begin(request)
    answers = {fx.FindInList: [Found(LISTED)], fx.WriteFound: [Adoption.ADOPTED]}

    step, done = drive(settle(context, attempt, sent_before=0.0), clock, answers)

    assert step == LISTED
    adopted_at = next(at for at, name in done if name == "WriteFound")
    assert (adopted_at >= VISIBILITY) == (seed is None)


def test_a_take_whose_choice_was_taken_meanwhile_looks_again() -> None:
    context, attempt, clock = begin(make_take(), age=VISIBILITY)
    other = Prediction(id="other", status=Status.PROCESSING)
    answers = {
        fx.FindInList: [Found(LISTED), Found(other)],
        fx.WriteFound: [Adoption.TAKEN, Adoption.ADOPTED],
    }

    step, _ = drive(settle(context, attempt, sent_before=-VISIBILITY), clock, answers)

    assert step == other
    assert context.created == 1


def test_a_take_that_the_list_may_have_forgotten_adopts_nothing() -> None:
    """Its own prediction may be one that shows no more, and another take waits for this one."""
    context, attempt, clock = begin(make_take(), age=2 * 3600.0)
    answers = {fx.FindInList: [Found(LISTED)], fx.ReadHistory: [()], fx.TakeResend: [False]}

    _, done = drive(settle(context, attempt, sent_before=-VISIBILITY), clock, answers)

    assert "WriteFound" not in [name for _, name in done]


def test_a_create_whose_prediction_another_take_has_adopted_is_settled_and_not_followed() -> None:
    context, attempt, clock = begin(make_take())
    answers = {fx.Send: [Accepted(LISTED)], fx.WriteAccepted: [State.INTENT]}

    step, done = drive(send(context, attempt), clock, answers)

    assert step == attempt, "the claim is decided again"
    assert [name for _, name in done] == ["Send", "WriteAccepted"]
    assert context.created == 0, "who has adopted it has counted it"


def test_a_take_that_is_proven_absent_is_sent_again() -> None:
    context, attempt, clock = begin(make_take())
    answers = {fx.Send: [Ambiguous("reset")], fx.FindInList: [Absent()]}

    step, done = drive(send(context, attempt), clock, answers)

    assert step.state is State.UNSENT
    assert done[-1][0] >= VISIBILITY
