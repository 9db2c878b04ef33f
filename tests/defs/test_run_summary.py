"""A run's outcome: what counts as done, what fails, and what its failure says."""

from dataclasses import replace

import dagster as dg
import pytest

from flux_pipeline.defs.run_summary import MOST_NAMED, Outcome
from flux_pipeline.lineage.record import ImageStatus
from flux_pipeline.produce.report import LeftOpen, PartitionReport, ResultStatus, Stop
from tests.defs.reports import build_record, build_report, build_result


def failure_of(outcome: Outcome) -> dg.Failure:
    failure = outcome.failure()
    assert failure is not None
    return failure


def test_a_partition_with_every_image_is_done() -> None:
    outcome = Outcome("run")
    assert outcome.add(build_report("castle", build_result(), build_result()))
    assert (outcome.tally.asked, outcome.tally.stored) == (2, 2)
    assert outcome.failure() is None


def test_an_empty_partition_is_done() -> None:
    assert Outcome("run").add(build_report("shard-0001"))


def test_what_was_unchanged_is_done() -> None:
    assert Outcome("run").add(build_report("castle", build_result(status=ResultStatus.UNCHANGED)))


def test_some_refused_images_leave_a_partition_done_and_incomplete() -> None:
    outcome = Outcome("run")
    result = build_result(
        outputs=2, images=[build_record(), build_record(status=ImageStatus.REFUSED)]
    )
    assert outcome.add(build_report("castle", result))
    assert outcome.incomplete == ["castle"]


@pytest.mark.parametrize(
    ("result_status", "status"),
    [
        (ResultStatus.REFUSED, ImageStatus.REFUSED),
        (ResultStatus.FAILED, ImageStatus.FAILED),
        (ResultStatus.HELD, ImageStatus.FAILED),
    ],
)
def test_a_partition_without_any_image_has_failed(
    result_status: ResultStatus, status: ImageStatus
) -> None:
    outcome = Outcome("run")
    nothing = build_result(
        status=result_status, images=[build_record(status=status)], reason="because"
    )
    assert not outcome.add(build_report("castle", nothing))
    assert outcome.failed == {"castle": "because"}


def test_one_failed_image_among_many_fails_its_partition() -> None:
    outcome = Outcome("run")
    broken = build_result(
        status=ResultStatus.FAILED,
        images=[build_record(status=ImageStatus.FAILED)],
        reason="cut short",
    )
    assert not outcome.add(build_report("castle", build_result(), broken, build_result()))
    assert outcome.failed == {"castle": "cut short"}


def test_a_failure_names_partitions_and_reasons_and_is_retried_by_nobody() -> None:
    outcome = Outcome("run")
    outcome.add(build_report("castle", build_result(usd=0.003)))
    outcome.add(
        build_report(
            "moon", build_result(status=ResultStatus.HELD, images=[], reason="fate unknown")
        )
    )
    failure = failure_of(outcome)
    assert failure.description == "1 of 2 partitions failed\nmoon: fate unknown"
    assert failure.allow_retries is False
    assert failure.metadata["flux/failed_partitions"].value == {"moon": "fate unknown"}
    assert failure.metadata["flux/cost_usd"].value == pytest.approx(0.003)


def test_a_failure_of_very_many_names_the_first() -> None:
    outcome = Outcome("run")
    for number in range(1_000):
        reason = f"reason {chr(0x4E00 + number)}"  # a number alone makes no other reason
        result = build_result(status=ResultStatus.FAILED, images=[], reason=reason)
        outcome.add(build_report(f"shard-{number:04d}", result))
    failure = failure_of(outcome)
    assert "1,000 of 1,000 partitions failed" in (failure.description or "")
    assert f"and {1_000 - MOST_NAMED} more" in (failure.description or "")
    assert len(failure.metadata["flux/failed_partitions"].value) == MOST_NAMED


def test_a_report_without_reasons_says_at_least_that_nothing_came() -> None:
    outcome = Outcome("run")
    report = PartitionReport("a", [build_result(images=[])], 1.0)
    assert not outcome.add(report)
    assert outcome.failed == {"a": "no image came"}


def test_a_reason_is_said_once_with_the_partitions_that_have_it() -> None:
    outcome = Outcome("run")
    failed = build_result(status=ResultStatus.FAILED, images=[], reason="no budget")
    full = replace(failed, stop=Stop.RUN_BUDGET)
    for key in ("a", "b", "c", "d", "e"):
        outcome.add(build_report(key, full))
    outcome.add(
        build_report("f", build_result(status=ResultStatus.HELD, images=[], reason="fate unknown"))
    )
    cost = full.request.cost_usd
    failure = failure_of(outcome)
    assert (failure.description or "").splitlines() == [
        "6 of 6 partitions failed",
        "a, b, c and 2 more: no budget",
        "f: fate unknown",
        f"not sent: 5 requests of {5 * cost:.4f} USD",
    ]
    assert failure.metadata["flux/waiting"].value == {
        "run_budget": {"reason": "no budget", "requests": 5, "usd": pytest.approx(5 * cost)},
        "held": {"reason": "fate unknown", "requests": 1, "usd": pytest.approx(cost)},
    }
    assert failure.metadata["flux/broken_requests"].value == 0


def test_reasons_that_differ_by_an_id_are_one_line() -> None:
    outcome = Outcome("run")
    for number in range(30):
        reason = f"prediction abc{number} failed: CUDA out of memory; the next run asks again"
        failed = build_result(status=ResultStatus.FAILED, images=[], reason=reason)
        outcome.add(build_report(f"shard-{number:04d}", failed))
    failure = failure_of(outcome)
    _, line = (failure.description or "").splitlines()
    keys, _, reason = line.partition(": ")
    assert keys == "shard-0000, shard-0001, shard-0002 and 27 more"
    assert reason == "prediction abc0 failed: CUDA out of memory; the next run asks again"


def test_what_is_paid_and_not_stored_is_counted_with_the_time_that_is_left() -> None:
    outcome = Outcome("run")
    for key, minutes in (("a", 50.0), ("b", 7.5), ("c", 30.0)):
        left = LeftOpen(f"prediction-{key}", "output 0: host not allowed", minutes * 60)
        lost = build_record(key, status=ImageStatus.FAILED, attempts=1)
        failed = build_result(
            status=ResultStatus.FAILED, images=[lost], reason=str(left), left_open=left
        )
        outcome.add(build_report(key, failed))
    failure = failure_of(outcome)
    assert (failure.description or "").splitlines()[-1] == (
        "paid and not stored yet: 3 requests of 0.0090 USD, about 7 minutes left; the next run or"
        " `flux-pipeline rescue` fetches what is there"
    )
    waiting = failure.metadata["flux/waiting"].value
    assert waiting["not_stored"]["requests"] == 3
    assert "prediction-b" in waiting["not_stored"]["reason"]  # the one that vanishes first
    assert failure.metadata["flux/broken_requests"].value == 0


def test_what_was_sent_before_is_not_counted_as_unsent() -> None:
    outcome = Outcome("run")
    sent = build_record(status=ImageStatus.FAILED, attempts=1)
    refused = build_result(
        status=ResultStatus.FAILED, images=[sent], reason="poll: 401", stop=Stop.KEY
    )
    unsent = build_result(
        status=ResultStatus.FAILED,
        images=[build_record(status=ImageStatus.FAILED)],
        reason="not sent: 401",
        stop=Stop.KEY,
    )
    outcome.add(build_report("a", refused, unsent))
    assert "not sent: 1 request of 0" in (failure_of(outcome).description or "")
    assert outcome.waiting["key"].requests == 2


def test_a_file_that_kept_the_providers_credentials_is_no_finding_and_a_broken_one_is_a_doubt() -> (
    None
):
    outcome = Outcome("run")
    doubt = "its content credentials were invalid as received (assertion.dataHash.mismatch)"
    kept = build_record("kept", credentials="kept")
    broken = build_record("broken", credentials="invalid as received", error=doubt)
    outcome.add(build_report("castle", build_result(images=[kept, broken])))
    assert outcome.findings.doubted == {"file:///broken.webp": doubt}
    assert outcome.findings.missing == {}
