"""Reasons are counted by kind: what stopped the run, what is open, and others."""

from flux_pipeline.produce.reasons import Reasons
from flux_pipeline.produce.report import LeftOpen, ResultStatus, Stop
from tests.defs.reports import build_result


def failed(reason: str, **changes: object) -> Reasons:
    reasons = Reasons()
    add(reasons, reason, **changes)
    return reasons


def add(reasons: Reasons, reason: str, **changes: object) -> None:
    reasons.add(build_result(status=ResultStatus.FAILED, images=[], reason=reason, **changes))


def test_reasons_that_differ_by_ids_numbers_or_addresses_are_one_with_the_first_as_example() -> (
    None
):
    reasons = Reasons()
    for text in (
        "prediction abc1 failed: out of memory at 12 GB, see https://a.example/1",
        "prediction letters-alone failed: out of memory at 9 GB, see https://b.example/2",
        "prediction Q-9.task failed: out of memory at 7 GB, see http://c.example",
    ):
        add(reasons, text, outputs=2)
    assert list(reasons.counts().values()) == [6]
    assert next(reasons.lines(1)).startswith("6 x prediction abc1 failed: out of memory at 12 GB")


def test_answers_of_another_status_are_another_reason() -> None:
    reasons = failed("host.example: answered 404")
    add(reasons, "host.example: answered 403")
    assert len(reasons.counts()) == 2


def test_what_stopped_the_run_comes_first() -> None:
    reasons = failed("prediction a1 failed")
    add(reasons, "not sent: why 1", stop=Stop.STORE)
    add(reasons, "not sent: why 2", stop=Stop.STORE)
    add(reasons, "not sent: why 1", stop=Stop.FAILURES)
    assert list(reasons.lines(10)) == ["3 x not sent: why 1", "1 x prediction a1 failed"]


def test_what_is_open_is_one_entry_with_the_shortest_time_and_each_reason() -> None:
    reasons = Reasons()
    for number, (why, minutes) in enumerate(
        [("no such host", 50), ("no such host", 20), ("the disk is full", 40)]
    ):
        left = LeftOpen(f"p{number}", why, minutes * 60.0)
        add(reasons, str(left), left_open=left)
    (line,) = reasons.lines(10)
    assert line == (
        "3 x paid, not stored yet, about 20 minutes left; the next run or `flux-pipeline rescue`"
        " fetches it: 2 x prediction p0: no such host; 1 x prediction p2: the disk is full"
    )


def test_outputs_that_may_be_gone_are_said_so() -> None:
    assert "it may be gone any moment" in str(LeftOpen("p", "why", 30.0))
    assert "about 1 minute left" in str(LeftOpen("p", "why", 119.0))


def test_more_kinds_than_are_shown_are_counted() -> None:
    reasons = Reasons()
    for word in "abcd":
        reasons.add_text(f"reason {word}", 1)
    assert list(reasons.lines(2)) == [
        "1 x reason a",
        "1 x reason b",
        "and 2 more reasons: see the lineage table",
    ]
    assert reasons
    assert not Reasons()
