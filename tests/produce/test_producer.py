import io
from collections.abc import Callable
from dataclasses import replace

import anyio
import pytest
from anyio.from_thread import start_blocking_portal
from PIL import Image

from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.errors import LedgerError
from flux_pipeline.images.labels import read_label
from flux_pipeline.ledger.base import State
from flux_pipeline.lineage.record import ImageStatus
from flux_pipeline.produce.budgets import Limits
from flux_pipeline.produce.producer import Reports, _report_groups
from flux_pipeline.produce.report import PartitionReport, Progress, ResultStatus, Tally
from tests.produce.pipeline import POLICY, QUICK, Pipeline, change_ledger, keys, make_requests

Open = Callable[..., Pipeline]


def interrupt(_: PartitionReport) -> None:
    raise KeyboardInterrupt


def test_every_request_ends_as_a_stored_image_with_its_record(pipeline: Pipeline) -> None:
    tally = pipeline.run(make_requests(20))

    assert tally == Tally(asked=20, stored=20, created=20, usd=pytest.approx(0.06))
    assert pipeline.created == 20
    for record in pipeline.reports[0].records:
        assert record.uri is not None
        body = pipeline.store.get(record.uri.removeprefix(f"{pipeline.store.uri}/"))
        with Image.open(io.BytesIO(body)) as image:
            image.load()
            assert image.size == (1024, 1024)
        label = read_label(body)
        assert label is not None
        assert (label.prediction_id, label.prompt) == (record.prediction_id, record.prompt)


def test_reports_that_wait_come_as_one_group() -> None:
    send, receive = anyio.create_memory_object_stream[PartitionReport](10)
    with send:
        for partition in ("castle", "moon", "zoo"):
            send.send_nowait(PartitionReport(partition, [], 0.0))
    with start_blocking_portal() as portal, receive:
        groups = Reports(_report_groups(portal, receive, Progress(0), print)).groups()
        assert [[each.partition for each in group] for group in groups] == [
            ["castle", "moon", "zoo"]
        ]


def test_a_second_run_sends_nothing_and_writes_nothing(pipeline: Pipeline) -> None:
    requests = make_requests(20)
    pipeline.run(requests)
    before = keys(pipeline, "")
    calls = pipeline.server.usage().requests_by_route

    assert pipeline.run(requests) == Tally(asked=20, unchanged=20)
    assert keys(pipeline, "") == before
    assert pipeline.server.usage().requests_by_route == calls


def test_one_edited_prompt_among_many_pays_for_one(pipeline: Pipeline) -> None:
    requests = make_requests(20)
    pipeline.run(requests)
    edited = make_requests(1, num_inference_steps=8)

    tally = pipeline.run([*edited, *requests[1:]])

    assert (tally.stored, tally.unchanged, tally.created) == (1, 19, 1)


def test_images_left_out_by_the_provider_are_named_as_refused(open_pipeline: Open) -> None:
    pipeline = open_pipeline(FaultPlan(outcome={"images_refused": 1.0}))

    tally = pipeline.run(make_requests(1, num_outputs=4))

    assert tally.asked == 4
    assert tally.refused >= 1
    assert tally.stored + tally.refused == 4
    by_status = {record.output_index: record.status for record in pipeline.reports[0].records}
    assert sorted(by_status) == [0, 1, 2, 3]
    assert not tally.complete


def test_a_budget_stops_before_the_request_that_would_exceed_it(pipeline: Pipeline) -> None:
    tally = pipeline.run(make_requests(10), limits=Limits(usd_per_run=0.0125))

    assert (tally.stored, tally.failed, tally.unsent, pipeline.received) == (4, 0, 6, 4)
    reasons = {result.reason for result in pipeline.reports[0].results if result.reason}
    assert all("budget usd_per_run 0.0125 has 0.0005 USD left" in each for each in reasons)


def test_a_refused_request_is_not_paid_and_not_sent_again(pipeline: Pipeline) -> None:
    request = make_requests(1)[0]
    bad = replace(request, input={**request.input, "num_inference_steps": 99})

    first = pipeline.run([bad])
    second = pipeline.run([bad])

    assert (first.refused, second.refused, pipeline.received, pipeline.created) == (1, 1, 1, 0)
    assert "num_inference_steps" in pipeline.reports[0].results[0].reason


def test_no_credit_stops_the_run_and_the_next_one_goes_on(open_pipeline: Open) -> None:
    options = QUICK.model_copy(update={"credit_usd": 0.0125})
    pipeline = open_pipeline(None, options)
    requests = make_requests(10)

    tally = pipeline.run(requests)

    assert (tally.stored, tally.failed, pipeline.created) == (4, 6, 4)
    assert any("402" in result.reason for result in pipeline.reports[0].results)
    assert pipeline.ledger.in_state(State.INTENT) == []


def test_a_lost_reply_is_found_in_the_list_and_not_paid_again(open_pipeline: Open) -> None:
    pipeline = open_pipeline(FaultPlan(create={"reset_after": 1.0}, cap=1))

    tally = pipeline.run(make_requests(10))

    assert (tally.stored, pipeline.created, pipeline.received) == (10, 10, 10)


def test_a_request_proven_absent_is_sent_again(open_pipeline: Open) -> None:
    pipeline = open_pipeline(FaultPlan(create={"reset_before": 1.0}, cap=1))

    tally = pipeline.run(make_requests(4))

    assert (tally.stored, pipeline.created, pipeline.received) == (4, 4, 8)


def test_without_a_list_a_lost_reply_is_held_where_the_policy_says_so(open_pipeline: Open) -> None:
    pipeline = open_pipeline(
        FaultPlan(create={"reset_after": 1.0}, cap=1),
        QUICK.model_copy(update={"list_enabled": False}),
        policy=replace(POLICY, unknown="hold"),
    )

    first = pipeline.run(make_requests(3))
    second = pipeline.run(make_requests(3))

    assert (first.held, second.held, pipeline.created) == (3, 3, 3)
    assert "flux-pipeline held" in pipeline.reports[0].results[0].reason


def test_without_a_list_a_lost_reply_is_sent_again_once_and_reported(open_pipeline: Open) -> None:
    pipeline = open_pipeline(
        FaultPlan(create={"reset_after": 1.0}, cap=1),
        QUICK.model_copy(update={"list_enabled": False}),
    )

    tally = pipeline.run(make_requests(7))

    assert (tally.stored, tally.held, pipeline.created) == (5, 2, 12)
    notices = [line for result in pipeline.reports[0].results for line in result.notices]
    assert len(notices) == 5
    assert all("possibly paid twice" in line and "0.0030 USD" in line for line in notices)


def test_an_interrupted_run_is_resumed_by_id(open_pipeline: Open) -> None:
    options = EmulatorOptions(time_scale=0.2, creates_per_minute=None)
    pipeline = open_pipeline(None, options)
    requests = make_requests(40)

    with pytest.raises(KeyboardInterrupt):
        pipeline.run(requests, split=1, on_report=interrupt)
    assert pipeline.ledger.in_state(State.INTENT) == []
    pipeline.reopen()
    tally = pipeline.run(requests)

    assert tally.stored + tally.unchanged == 40
    assert pipeline.created == 40
    assert pipeline.ledger.unfinished() == []


def test_an_image_stored_by_an_interrupted_run_gets_its_lineage_row_later(
    pipeline: Pipeline,
) -> None:
    requests = make_requests(3)
    pipeline.run(requests)
    change_ledger(pipeline, "UPDATE flux_attempts SET recorded = 0")
    for key in keys(pipeline, "lineage/"):
        (pipeline.folder / "store" / key).unlink()

    tally = pipeline.run(requests)

    assert (tally.unchanged, tally.created) == (3, 0)
    assert len(keys(pipeline, "lineage/")) == 1
    assert pipeline.reports[0].lineage_uri is not None


def test_an_unreachable_provider_costs_nothing_and_leaves_nothing_open(pipeline: Pipeline) -> None:
    pipeline.server.origin = "http://127.0.0.1:9"

    tally = pipeline.run(make_requests(2))

    assert (tally.failed, tally.created) == (2, 0)
    assert all("nothing was paid" in result.reason for result in pipeline.reports[0].results)
    assert {attempt.state for attempt in pipeline.ledger.attempts()} == {State.UNSENT}


def test_a_store_that_fails_keeps_what_is_paid_for_the_next_run(pipeline: Pipeline) -> None:
    requests = make_requests(2)
    blocked = pipeline.folder / "store" / "images"
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("a file where the folder should be")

    first = pipeline.run(requests)
    assert (first.failed, first.created) == (2, 2)
    reasons = {result.reason for result in pipeline.reports[0].results}
    assert all("paid, not stored yet, about 59 minutes left" in reason for reason in reasons)

    blocked.unlink()
    pipeline.reopen()
    second = pipeline.run(requests)
    assert (second.stored, second.created, pipeline.created) == (2, 0, 2)


def test_nothing_is_sent_without_a_ledger(pipeline: Pipeline) -> None:
    change_ledger(pipeline, "DROP TABLE flux_attempts")

    with pytest.raises(LedgerError):
        pipeline.run(make_requests(2))
    assert pipeline.received == 0


def test_nothing_is_sent_where_the_ledgers_disk_is_full(pipeline: Pipeline) -> None:
    assert pipeline.run(make_requests(2)).stored == 2
    with pipeline.ledger.transaction() as calls:  # raised to what there is already
        calls.connection.exec_driver_sql("PRAGMA max_page_count = 1")

    with pytest.raises(LedgerError, match="the disk is full"):
        pipeline.run(make_requests(2_000)[2:])
    begun = {attempt.request_sha256 for attempt in pipeline.ledger.attempts()}
    assert pipeline.received <= len(begun)


def test_refused_images_keep_their_record_in_the_next_run(open_pipeline: Open) -> None:
    pipeline = open_pipeline(FaultPlan(outcome={"failed_nsfw": 1.0}))
    requests = make_requests(2)

    first = pipeline.run(requests)
    second = pipeline.run(requests)

    assert (first.refused, second.refused, pipeline.created) == (2, 2, 2)
    result = pipeline.reports[0].results[0]
    assert result.status is ResultStatus.REFUSED
    assert all(record.status is ImageStatus.REFUSED for record in result.records)
    assert "NSFW" in result.reason
