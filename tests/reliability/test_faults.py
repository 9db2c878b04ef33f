"""Each fault of the emulator's catalogue, met by several requests: nothing is lost or paid twice.

The faults of one phase run together, each on requests of its own, so that one run waits for all of
them. Alone are those that stop a run or need a time limit that would disturb the others.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, get_args

import pytest
from pydantic import Field

from flux_pipeline.emulator.faults import (
    CallFault,
    CreateFault,
    DownloadFault,
    FaultPlan,
    OutcomeFault,
    Phase,
)
from flux_pipeline.emulator.inputs import input_sha
from flux_pipeline.ledger.base import State
from flux_pipeline.request import Request
from tests.produce.pipeline import (
    IMPATIENT,
    PATIENT,
    POLICY,
    QUICK,
    Pipeline,
    make_requests,
)

Open = Callable[..., Pipeline]

TRIED_TWICE = replace(POLICY, failed_tries=2)
EACH = 2
"""Requests that meet one fault."""
STOPS_THE_RUN = {"unauthorized", "payment_required"}
ENDLESS = {"hang", "hang_before", "hang_after", "timeout_after", "slow", "endless"}
"""Faults that end only by a timeout."""
REFUSED = {"failed_nsfw"}
LOST = {"null_output", "expired"}
NEW_ATTEMPT = {
    "aborted",
    "canceled",
    "stuck",
    "failed_pa",
    "failed_e9828",
    "failed_e6716",
    "failed_e8765",
    "failed_e9243",
    "failed_e1001",
    "failed_null",
    "failed_permanent",  # unknown to us: asked again until the tries are used up
    "failed_memory",
    "failed_exitcode",
    "failed_unknown",
    "failed_weights",
}
"""Faults after which another prediction is created, which is paid too."""
LEFT_OUT = {
    "throttled_huge",  # asks for a day, which is obeyed for 60 s: too long for here
    "images_refused",  # test_producer.py has it: what it leaves depends on the number of images
}

CATALOGUE: Mapping[Phase, tuple[str, ...]] = {
    "create": get_args(CreateFault),
    "outcome": get_args(OutcomeFault),
    "poll": get_args(CallFault),
    "download": get_args(DownloadFault),
}


def group_faults() -> Iterator[Any]:
    for phase, catalogue in CATALOGUE.items():
        faults = [fault for fault in catalogue if fault not in LEFT_OUT]
        alone = STOPS_THE_RUN | {"stuck"}
        groups = [[fault] for fault in faults if fault in alone]
        groups.append([fault for fault in faults if fault in ENDLESS])
        groups.append([fault for fault in faults if fault not in alone | ENDLESS])
        for group in filter(None, groups):
            yield pytest.param(
                phase, group, id="-".join([phase, *group[:1], *(["etc"] if group[1:] else [])])
            )


class FaultOfEachInput(FaultPlan):
    """A plan by which each input meets its own fault, and after it no other before it gets through.

    What belongs to the input, such as a refusal, it meets every time.
    """

    phase: Phase
    by_input: dict[str, str] = Field(description="Fault by the input's fingerprint.")

    def rates(self, phase: Phase) -> Mapping[str, float]:
        return {"the input's own": 1.0} if phase == self.phase else {}

    def drawn(self, phase: Phase, identity: str, times: int, hits: int) -> str | None:
        fault = self.by_input[identity.partition("#")[0]]
        return fault if hits == 0 or fault in {"failed_nsfw", "failed_permanent"} else None


def provider_sha(request: Request) -> str:
    """The provider's own fingerprint of a request."""
    return input_sha(request.version, dict(request.input))


@pytest.mark.parametrize(("phase", "faults"), list(group_faults()))
def test_a_fault_costs_nothing_and_loses_nothing(
    phase: Phase, faults: list[str], open_pipeline: Open
) -> None:
    requests = make_requests(EACH * len(faults))
    met = {provider_sha(request): faults[n % len(faults)] for n, request in enumerate(requests)}
    pipeline = open_pipeline(
        FaultOfEachInput(phase=phase, by_input=met, hint_seconds=0.1, late_seconds=0.03),
        # Predictions end at once, except where the fault is met on the way to the end.
        QUICK.model_copy(update={"time_scale": 0.1 if phase in {"outcome", "poll"} else 0}),
        policy=replace(TRIED_TWICE, deadline=1.0) if "stuck" in faults else TRIED_TWICE,
        timeouts=IMPATIENT if ENDLESS & set(faults) else PATIENT,
    )

    first = pipeline.run(requests)
    tally = first
    for hours in (0, 0, 2):  # what is paid is believed to be gone only after its lifetime
        if not tally.complete:
            pipeline.reopen(later=hours * 3600.0)
            tally = pipeline.run(requests)

    usage = pipeline.server.usage()
    assert {fault.partition(".")[2] for fault in usage.faults} == set(faults)
    assert (first.failed > 0) >= bool(STOPS_THE_RUN & set(faults))
    count = Counter(expected_state(fault) for fault in met.values())
    assert tally.refused == count[State.REFUSED]
    assert tally.failed == count[State.FAILED] + count[State.EXPIRED]
    latest = pipeline.ledger.find([request.request_sha256 for request in requests])
    states = {provider_sha(request): latest[request.request_sha256].state for request in requests}
    paid = Counter(prediction.input_sha for prediction in usage.predictions)
    assert [(fault, states[sha], paid[sha]) for sha, fault in met.items()] == [
        (fault, expected_state(fault), expected_payments(fault)) for fault in met.values()
    ]
    known = {attempt.prediction_id for attempt in pipeline.ledger.attempts()} - {None}
    assert known == {prediction.id for prediction in usage.predictions}
    assert pipeline.ledger.unfinished() == []


def expected_state(fault: str) -> State:
    if fault in REFUSED:
        return State.REFUSED
    if fault in LOST:
        return State.EXPIRED
    return State.FAILED if fault == "failed_permanent" else State.STORED


def expected_payments(fault: str) -> int:
    return 1 + (fault in NEW_ATTEMPT)
