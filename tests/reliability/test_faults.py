"""Each fault of the catalogue, alone, met by every request once: nothing is lost or paid twice.

``extra`` is what the fault itself costs: a prediction that failed at the provider was paid, and the
new attempt is paid too.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest

from flux_pipeline.emulator.faults import (
    CallFault,
    CreateFault,
    DownloadFault,
    FaultPlan,
    OutcomeFault,
)
from tests.produce.pipeline import (
    IMPATIENT,
    PATIENT,
    POLICY,
    QUICK,
    Pipeline,
    make_requests,
)

REQUESTS = 3
STOPS_THE_RUN = {"unauthorized", "payment_required"}
REFUSED_FOR_GOOD = {"failed_nsfw", "error_object"}
FAILED_FOR_GOOD = {"failed_permanent", "null_output", "expired"}
NEW_ATTEMPT = {
    "aborted",
    "canceled",
    "failed_pa",
    "failed_e9828",
    "failed_e6716",
    "failed_e8765",
    "failed_e9243",
    "failed_e1001",
    "failed_null",
}

CASES = [
    # throttled_huge asks for a day, which is obeyed for 60 s: too long for here.
    *(("create", fault) for fault in get_args(CreateFault) if fault != "throttled_huge"),
    *(("outcome", fault) for fault in get_args(OutcomeFault) if fault != "images_refused"),
    *(("poll", fault) for fault in get_args(CallFault)),
    *(("download", fault) for fault in get_args(DownloadFault)),
]


@pytest.mark.parametrize(("phase", "fault"), CASES)
def test_a_fault_costs_nothing_and_loses_nothing(
    phase: str, fault: str, open_pipeline: Callable[..., Pipeline]
) -> None:
    plan = FaultPlan.model_validate({phase: {fault: 1.0}, "cap": 1})
    # A deadline and short timeouts only for what never ends without them.
    policy = replace(POLICY, deadline=4.0) if fault == "stuck" else POLICY
    endless = "hang" in fault or fault in {"slow", "endless"}
    # Finished at once, but where the fault is met on the way to the end; what follows a stuck one
    # must end before the same deadline.
    gradual = phase in {"outcome", "poll"} and fault != "stuck"
    options = QUICK.model_copy(update={"time_scale": 0.1}) if gradual else QUICK
    pipeline = open_pipeline(
        plan, options, policy=policy, timeouts=IMPATIENT if endless else PATIENT
    )
    requests = make_requests(REQUESTS)

    first = pipeline.run(requests)
    tally: Any = first
    for _ in range(REQUESTS):
        if not tally.complete:
            pipeline.reopen()
            tally = pipeline.run(requests)

    ledger = pipeline.server.usage()
    if fault in REFUSED_FOR_GOOD:
        assert tally.refused == REQUESTS
    elif fault in FAILED_FOR_GOOD:
        assert tally.failed == REQUESTS
    else:
        assert tally.stored + tally.unchanged == REQUESTS
    if fault in STOPS_THE_RUN:
        assert first.failed > 0
    expected = 2 * REQUESTS if fault in NEW_ATTEMPT | {"stuck"} else REQUESTS
    if fault == "error_object":
        expected = 0
    assert ledger.creates_accepted == expected
    accepted = {attempt.prediction_id for attempt in pipeline.ledger.attempts()} - {None}
    assert len(accepted) == ledger.creates_accepted
    assert pipeline.ledger.unfinished() == []
