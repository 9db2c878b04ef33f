"""Partitions that have ended are reported from the ledger alone, as the engine reports them."""

from collections.abc import Callable, Sequence

from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.produce.finished import report_finished
from flux_pipeline.produce.policy import RunContext
from flux_pipeline.produce.report import PartitionReport, ResultStatus
from flux_pipeline.request import Request
from tests.produce.pipeline import POLICY, Pipeline, change_ledger, make_requests

Open = Callable[..., Pipeline]
RUN = RunContext("later", "set/images")


def found(pipeline: Pipeline, requests: Sequence[Request]) -> Sequence[PartitionReport] | None:
    partitions = [("first", requests[:1]), ("none", []), ("p", requests[1:])]
    return report_finished(partitions, pipeline.ledger, run=RUN, policy=POLICY)


def test_it_reports_what_the_engine_reports(pipeline: Pipeline) -> None:
    requests = make_requests(3)
    pipeline.run(requests, split=1)
    pipeline.run(requests, split=1)
    reports = found(pipeline, requests)
    assert reports is not None
    assert [(each.partition, len(each.results)) for each in reports] == [
        ("first", 1),
        ("none", 0),
        ("p", 2),
    ]
    by_engine = {each.partition: list(each.results) for each in pipeline.reports}
    assert {each.partition: each.results for each in reports if each.results} == by_engine
    assert {result.status for each in reports for result in each.results} == {
        ResultStatus.UNCHANGED
    }


def test_what_was_refused_has_ended_too(open_pipeline: Open) -> None:
    pipeline = open_pipeline(FaultPlan(outcome={"failed_nsfw": 1.0}))
    requests = make_requests(2)
    pipeline.run(requests)
    reports = found(pipeline, requests)
    assert reports is not None
    assert [each.tally.refused for each in reports] == [1, 0, 1]


def test_it_reports_nothing_where_one_request_is_new(pipeline: Pipeline) -> None:
    requests = make_requests(3)
    pipeline.run(requests[:2])
    assert found(pipeline, requests) is None


def test_it_reports_nothing_where_rows_of_lineage_are_missing(pipeline: Pipeline) -> None:
    requests = make_requests(2)
    pipeline.run(requests)
    change_ledger(pipeline, "UPDATE flux_attempts SET recorded = 0")
    assert found(pipeline, requests) is None
