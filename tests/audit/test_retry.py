"""What failed or was refused is asked for again where a person says so, once and within budgets."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from flux_pipeline.audit.retry import allow, find_retries
from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.emulator.server import EmulatorServer
from flux_pipeline.ledger.base import State
from flux_pipeline.produce.budgets import Limits
from flux_pipeline.produce.report import Tally
from flux_pipeline.request import Request
from tests.audit.unfinished import accept
from tests.produce.pipeline import POLICY, QUICK, Pipeline, make_requests

Open = Callable[..., Pipeline]
FAILED = frozenset({State.FAILED})
REFUSED = frozenset({State.REFUSED})
PERMANENT = FaultPlan(outcome={"failed_permanent": 1.0})
"""The message says nothing about whose fault it is."""
NSFW = FaultPlan(outcome={"failed_nsfw": 1.0})

ONCE = replace(POLICY, failed_tries=1)
"""Only a person asks again for what has failed."""


def retried(pipeline: Pipeline, requests: list[Request], states: frozenset[State]) -> list[str]:
    found = list(find_retries(pipeline.ledger, requests, states=states))
    return [each.request.source.prompt_name for each in allow(pipeline.ledger, found)]


@pytest.fixture
def mended() -> Iterator[EmulatorServer]:
    """The provider after its operators have mended it."""
    with EmulatorServer(QUICK) as server:
        yield server


@pytest.mark.parametrize(("plan", "states"), [(PERMANENT, FAILED), (NSFW, REFUSED)])
def test_what_a_run_leaves_alone_is_asked_again_when_it_is_allowed(
    open_pipeline: Open, mended: EmulatorServer, plan: FaultPlan, states: frozenset[State]
) -> None:
    pipeline = open_pipeline(plan, policy=ONCE)
    requests = make_requests(2)
    pipeline.run(requests)
    broken, pipeline.server = pipeline.server, mended
    assert pipeline.run(requests).created == 0

    assert retried(pipeline, requests, states) == ["prompt-0", "prompt-1"]

    assert pipeline.run(requests) == Tally(asked=2, stored=2, created=2, usd=0.006)
    assert pipeline.run(requests) == Tally(asked=2, unchanged=2)
    assert retried(pipeline, requests, states) == []
    pipeline.server = broken


def test_each_is_asked_once_and_fails_for_good_again(open_pipeline: Open) -> None:
    pipeline = open_pipeline(PERMANENT, policy=ONCE)
    requests = make_requests(1)
    pipeline.run(requests)
    retried(pipeline, requests, FAILED)

    assert pipeline.run(requests).created == 1
    assert pipeline.run(requests).created == 0
    assert pipeline.created == 2


def test_only_what_ended_in_the_states_that_were_named_is_found(open_pipeline: Open) -> None:
    pipeline = open_pipeline(PERMANENT, policy=ONCE)
    requests = make_requests(3)
    pipeline.run(requests)

    assert list(find_retries(pipeline.ledger, requests, states=REFUSED)) == []
    found = list(find_retries(pipeline.ledger, requests[1:], states=FAILED))

    assert [each.request for each in found] == requests[1:]
    assert all(" failed: " in each.reason for each in found)


def test_what_is_under_way_or_stored_or_was_never_asked_is_not_found(pipeline: Pipeline) -> None:
    under_way, stored, new = make_requests(3)
    accept(pipeline, under_way)
    pipeline.run([stored])

    found = find_retries(pipeline.ledger, [under_way, stored, new], states=FAILED | REFUSED)

    assert list(found) == []


def test_it_is_paid_within_the_budgets(open_pipeline: Open) -> None:
    pipeline = open_pipeline(PERMANENT, policy=ONCE)
    requests = make_requests(2)
    pipeline.run(requests)
    retried(pipeline, requests, FAILED)

    pipeline.run(requests, limits=Limits(usd_per_run=0.003))

    assert pipeline.created == 3


def test_what_changed_meanwhile_is_left_out(open_pipeline: Open) -> None:
    pipeline = open_pipeline(PERMANENT, policy=ONCE)
    requests = make_requests(2)
    pipeline.run(requests)
    found = list(find_retries(pipeline.ledger, requests, states=FAILED))
    retried(pipeline, requests[:1], FAILED)
    pipeline.run(requests[:1])

    assert [each.request for each in allow(pipeline.ledger, found)] == requests[1:]
