import io
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import pytest
from PIL import Image

from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.errors import LedgerError
from flux_pipeline.images.labels import read_label
from flux_pipeline.ledger.base import State
from flux_pipeline.lineage.record import ImageStatus
from flux_pipeline.produce.budgets import Limits
from flux_pipeline.produce.report import PartitionReport, ResultStatus, Tally
from tests.produce.conftest import POLICY, QUICK, Bench, make_requests

Open = Callable[..., Bench]


def interrupt(_: PartitionReport) -> None:
    raise KeyboardInterrupt


def change_ledger(bench: Bench, statement: str) -> None:
    with closing(sqlite3.connect(bench.folder / "ledger.db")) as database, database:
        database.execute(statement)


def keys(bench: Bench, prefix: str) -> list[str]:
    return list(bench.store.list(prefix))


def test_every_request_ends_as_a_stored_image_with_its_record(bench: Bench) -> None:
    tally = bench.run(make_requests(20))

    assert tally == Tally(asked=20, stored=20, created=20, usd=pytest.approx(0.06))
    assert bench.created == 20
    for record in bench.reports[0].records:
        assert record.uri is not None
        body = bench.store.get(record.uri.removeprefix(f"{bench.store.uri}/"))
        with Image.open(io.BytesIO(body)) as image:
            image.load()
            assert image.size == (1024, 1024)
        label = read_label(body)
        assert label is not None
        assert (label.prediction_id, label.prompt) == (record.prediction_id, record.prompt)


def test_a_second_run_sends_nothing_and_writes_nothing(bench: Bench) -> None:
    requests = make_requests(20)
    bench.run(requests)
    before = keys(bench, "")
    calls = bench.server.ledger().requests_by_route

    assert bench.run(requests) == Tally(asked=20, unchanged=20)
    assert keys(bench, "") == before
    assert bench.server.ledger().requests_by_route == calls


def test_one_edited_prompt_among_many_pays_for_one(bench: Bench) -> None:
    requests = make_requests(20)
    bench.run(requests)
    edited = make_requests(1, num_inference_steps=8)

    tally = bench.run([*edited, *requests[1:]])

    assert (tally.stored, tally.unchanged, tally.created) == (1, 19, 1)


def test_images_left_out_by_the_provider_are_named_as_refused(open_bench: Open) -> None:
    bench = open_bench(FaultPlan(outcome={"images_refused": 1.0}))

    tally = bench.run(make_requests(1, num_outputs=4))

    assert tally.asked == 4
    assert tally.refused >= 1
    assert tally.stored + tally.refused == 4
    by_status = {record.output_index: record.status for record in bench.reports[0].records}
    assert sorted(by_status) == [0, 1, 2, 3]
    assert not tally.complete


def test_a_budget_stops_before_the_request_that_would_exceed_it(bench: Bench) -> None:
    tally = bench.run(make_requests(10), limits=Limits(usd_per_run=0.0125))

    assert (tally.stored, tally.failed, bench.received) == (4, 6, 4)
    reasons = {result.reason for result in bench.reports[0].results if result.reason}
    assert all("budget usd_per_run 0.0125 has 0.0005 USD left" in each for each in reasons)


def test_a_refused_request_is_not_paid_and_not_sent_again(bench: Bench) -> None:
    request = make_requests(1)[0]
    bad = replace(request, input={**request.input, "num_inference_steps": 99})

    first = bench.run([bad])
    second = bench.run([bad])

    assert (first.refused, second.refused, bench.received, bench.created) == (1, 1, 1, 0)
    assert "num_inference_steps" in bench.reports[0].results[0].reason


def test_no_credit_stops_the_run_and_the_next_one_goes_on(open_bench: Open) -> None:
    options = QUICK.model_copy(update={"credit_usd": 0.0125})
    bench = open_bench(None, options)
    requests = make_requests(10)

    tally = bench.run(requests)

    assert (tally.stored, tally.failed, bench.created) == (4, 6, 4)
    assert any("402" in result.reason for result in bench.reports[0].results)
    assert bench.ledger.in_state(State.INTENT) == []


def test_a_lost_reply_is_found_in_the_list_and_not_paid_again(open_bench: Open) -> None:
    bench = open_bench(FaultPlan(create={"reset_after": 1.0}, cap=1))

    tally = bench.run(make_requests(10))

    assert (tally.stored, bench.created, bench.received) == (10, 10, 10)


def test_a_request_proven_absent_is_sent_again(open_bench: Open) -> None:
    bench = open_bench(FaultPlan(create={"reset_before": 1.0}, cap=1))

    tally = bench.run(make_requests(4))

    assert (tally.stored, bench.created, bench.received) == (4, 4, 8)


def test_without_a_list_a_lost_reply_is_held_where_the_policy_says_so(open_bench: Open) -> None:
    bench = open_bench(
        FaultPlan(create={"reset_after": 1.0}, cap=1),
        QUICK.model_copy(update={"list_enabled": False}),
        policy=replace(POLICY, unknown="hold"),
    )

    first = bench.run(make_requests(3))
    second = bench.run(make_requests(3))

    assert (first.held, second.held, bench.created) == (3, 3, 3)
    assert "flux-pipeline held" in bench.reports[0].results[0].reason


def test_without_a_list_a_lost_reply_is_sent_again_once_and_reported(open_bench: Open) -> None:
    bench = open_bench(
        FaultPlan(create={"reset_after": 1.0}, cap=1),
        QUICK.model_copy(update={"list_enabled": False}),
    )

    tally = bench.run(make_requests(7))

    assert (tally.stored, tally.held, bench.created) == (5, 2, 12)
    notices = [line for result in bench.reports[0].results for line in result.notices]
    assert len(notices) == 5
    assert all("possibly paid twice" in line and "0.0030 USD" in line for line in notices)


def test_an_interrupted_run_is_resumed_by_id(open_bench: Open) -> None:
    options = EmulatorOptions(time_scale=0.2, creates_per_minute=None)
    bench = open_bench(None, options)
    requests = make_requests(40)

    with pytest.raises(KeyboardInterrupt):
        bench.run(requests, split=1, on_report=interrupt)
    assert bench.ledger.in_state(State.INTENT) == []
    bench.reopen()
    tally = bench.run(requests)

    assert tally.stored + tally.unchanged == 40
    assert bench.created == 40
    assert bench.ledger.unfinished() == []


def test_an_image_stored_by_an_interrupted_run_gets_its_lineage_row_later(bench: Bench) -> None:
    requests = make_requests(3)
    bench.run(requests)
    change_ledger(bench, "UPDATE flux_attempts SET recorded = 0")
    for key in keys(bench, "lineage/"):
        (bench.folder / "store" / key).unlink()

    tally = bench.run(requests)

    assert (tally.unchanged, tally.created) == (3, 0)
    assert len(keys(bench, "lineage/")) == 1
    assert bench.reports[0].lineage_uri is not None


def test_an_unreachable_provider_costs_nothing_and_leaves_nothing_open(bench: Bench) -> None:
    bench.server.origin = "http://127.0.0.1:9"

    tally = bench.run(make_requests(2))

    assert (tally.failed, tally.created) == (2, 0)
    assert all("nothing was paid" in result.reason for result in bench.reports[0].results)
    assert {attempt.state for attempt in bench.ledger.attempts()} == {State.UNSENT}


def test_a_store_that_fails_keeps_what_is_paid_for_the_next_run(bench: Bench) -> None:
    requests = make_requests(2)
    blocked = bench.folder / "store" / "images"
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("a file where the folder should be")

    first = bench.run(requests)
    assert (first.failed, first.created) == (2, 2)
    assert all("next run resumes it" in r.reason for r in bench.reports[0].results)

    blocked.unlink()
    bench.reopen()
    second = bench.run(requests)
    assert (second.stored, second.created, bench.created) == (2, 0, 2)


def test_nothing_is_sent_without_a_ledger(bench: Bench) -> None:
    change_ledger(bench, "DROP TABLE flux_attempts")

    with pytest.raises(LedgerError):
        bench.run(make_requests(2))
    assert bench.received == 0


def test_nothing_is_sent_where_the_ledgers_disk_is_full(bench: Bench) -> None:
    assert bench.run(make_requests(2)).stored == 2
    with bench.ledger.transaction() as calls:  # raised to what there is already
        calls.connection.exec_driver_sql("PRAGMA max_page_count = 1")

    with pytest.raises(LedgerError, match="the disk is full"):
        bench.run(make_requests(2_000)[2:])
    begun = {attempt.request_sha256 for attempt in bench.ledger.attempts()}
    assert bench.received <= len(begun)


def test_refused_images_keep_their_record_in_the_next_run(open_bench: Open) -> None:
    bench = open_bench(FaultPlan(outcome={"failed_nsfw": 1.0}))
    requests = make_requests(2)

    first = bench.run(requests)
    second = bench.run(requests)

    assert (first.refused, second.refused, bench.created) == (2, 2, 2)
    result = bench.reports[0].results[0]
    assert result.status is ResultStatus.REFUSED
    assert all(record.status is ImageStatus.REFUSED for record in result.records)
    assert "NSFW" in result.reason
