"""A leap of the wall clock between a lost create and its settlement pays for nothing twice."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest

from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.ledger.base import State
from flux_pipeline.ledger.leases import elapsed_since_boot
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.produce.policy import RunContext
from flux_pipeline.provider.client import Provider
from flux_pipeline.provider.config import ProviderConfig
from flux_pipeline.request import Request
from tests.audit.unfinished import create, intend
from tests.produce.pipeline import POLICY, QUICK, Pipeline, make_requests

Open = Callable[..., Pipeline]
HOUR = 3600.0
SHOWN_LATE = QUICK.model_copy(update={"list_delay_seconds": 0.5})
PATIENT = replace(POLICY, visibility=1.5)


@dataclass
class LeapingClock:
    """The wall clock, ahead by ``leap`` s."""

    leap: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.leap


def reopen(pipeline: Pipeline, clock: LeapingClock) -> None:
    pipeline.ledger.dispose()
    url = f"sqlite:///{pipeline.folder}/ledger.db"
    pipeline.ledger = open_ledger(url, clock=clock, steady=elapsed_since_boot)


def run(pipeline: Pipeline, clock: Callable[[], float], requests: Sequence[Request]) -> None:
    config = ProviderConfig(base_url=pipeline.server.origin, api_key="key-of-the-tests")
    producer = replace(pipeline.producer, open_provider=lambda: Provider(config, clock=clock))
    context = RunContext("run-1", "set/images")
    with producer.stream([("p", requests)], run=context) as reports:
        pipeline.reports = list(reports)


@pytest.mark.parametrize("leap", [HOUR, -HOUR, 26 * HOUR])
def test_a_leap_before_the_take_over_resends_nothing(open_pipeline: Open, leap: float) -> None:
    pipeline = open_pipeline(None, SHOWN_LATE, policy=PATIENT)
    paid, never_sent = make_requests(2)
    for request in (never_sent, paid):
        intend(pipeline, request)
    create(pipeline, paid)

    clock = LeapingClock(leap)
    reopen(pipeline, clock)
    run(pipeline, clock, [paid, never_sent])

    assert pipeline.created == 2
    states = sorted(each.state for each in pipeline.ledger.attempts())
    assert states == [State.STORED, State.STORED, State.UNSENT]


@pytest.mark.parametrize("leap", [HOUR, -HOUR])
def test_a_leap_while_a_lost_reply_is_looked_for_resends_nothing(
    open_pipeline: Open, leap: float
) -> None:
    lost = FaultPlan(create={"reset_after": 1.0}, cap=1)
    pipeline = open_pipeline(lost, SHOWN_LATE, policy=PATIENT)
    clock = LeapingClock()
    reopen(pipeline, clock)
    requests = make_requests(3)

    def leap_when_it_is_paid() -> float:
        clock.leap = leap if pipeline.created else 0.0
        return clock()

    run(pipeline, leap_when_it_is_paid, requests)

    assert pipeline.created == 3
    assert [each.state for each in pipeline.ledger.attempts()] == [State.STORED] * 3
