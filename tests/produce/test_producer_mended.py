"""What a person can mend, or what passes, is never final: the next run stores what was paid."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.ledger.base import State
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.lineage.record import ImageStatus
from flux_pipeline.produce.report import PartitionReport, Stop
from flux_pipeline.provider import transport
from tests.produce.pipeline import POLICY, QUICK, Pipeline, change_ledger, keys, make_requests
from tests.provider.certificates import serving, trusting, write_certificate
from tests.servers.s3_proxy import Reply, S3Proxy, s3_proxy

Open = Callable[..., Pipeline]
FOR_EVER = 1e9
HOURS = 2 * 3600.0
"""Later than any output lives."""
PATIENT = replace(POLICY, gone_patience=60.0, backoff_limit=0.2)
IMPATIENT = replace(POLICY, gone_patience=0.05)
RUNNING = QUICK.model_copy(update={"time_scale": 0.2})  # so that predictions are polled


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Proxy]:
    """Another host with TLS, on which the emulator's outputs lie."""
    certificate = write_certificate(tmp_path / "server.pem")
    context = trusting(certificate)
    monkeypatch.setattr(transport, "verifying_context", lambda _: context)
    with s3_proxy("", serving(certificate)) as proxy:
        yield proxy


@pytest.fixture
def open_behind_files(open_pipeline: Open, files: S3Proxy) -> Open:
    def make(**more: object) -> Pipeline:
        options = QUICK.model_copy(update={"output_origin": files.endpoint})
        pipeline = open_pipeline(None, options, **more)
        files.backend = pipeline.server.origin.removeprefix("http://")
        return pipeline

    return make


def states(pipeline: Pipeline) -> set[State]:
    """Of the latest attempts."""
    latest = {attempt.request_sha256: attempt for attempt in pipeline.ledger.attempts()}
    return {attempt.state for attempt in latest.values()}


def stops(pipeline: Pipeline) -> set[Stop | None]:
    return {result.stop for report in pipeline.reports for result in report.results}


def reasons(pipeline: Pipeline) -> list[str]:
    return [result.reason for report in pipeline.reports for result in report.results]


def allow_files(pipeline: Pipeline) -> None:
    pipeline.output_hosts, pipeline.output_networks = ("127.0.0.1",), ("127.0.0.1/32",)


def test_outputs_on_a_host_that_is_not_allowed_are_stored_after_the_setting_is_corrected(
    open_behind_files: Open,
) -> None:
    pipeline = open_behind_files(output_networks=("127.0.0.1/32",))
    requests = make_requests(40)

    first = pipeline.run(requests)

    assert (first.stored, first.failed) == (0, 40)
    assert first.created == pipeline.created < 40  # the brake
    assert stops(pipeline) == {None, Stop.FAILURES}
    assert any("paid, not stored yet" in each for each in reasons(pipeline))
    assert any("5 times in a row" in each for each in reasons(pipeline))
    assert all("FLUX_OUTPUT_HOSTS=127.0.0.1" in each for each in reasons(pipeline))
    assert len(pipeline.ledger.unfinished()) == pipeline.created

    allow_files(pipeline)
    pipeline.reopen()
    second = pipeline.run(requests)

    assert (second.stored, pipeline.created) == (40, 40)
    assert first.usd + second.usd == pytest.approx(pipeline.server.usage().charged_usd)
    assert states(pipeline) == {State.STORED}


@pytest.mark.parametrize("fault", ["downloads_404", "downloads_403", "polls_404"])
def test_an_answer_that_passes_within_the_patience_is_waited_for(
    open_pipeline: Open, fault: str
) -> None:
    faults = FaultPlan.model_validate({"lasting": {fault: 1.5}})
    pipeline = open_pipeline(faults, RUNNING, policy=PATIENT)

    tally = pipeline.run(make_requests(20))

    assert (tally.stored, tally.created, pipeline.created) == (20, 20, 20)
    assert f"lasting.{fault}" in pipeline.server.usage().faults


@pytest.mark.parametrize("fault", ["downloads_404", "downloads_403", "polls_404"])
def test_an_answer_that_lasts_longer_leaves_what_is_paid_to_the_next_run(
    open_pipeline: Open, fault: str
) -> None:
    faults = FaultPlan.model_validate({"lasting": {fault: FOR_EVER}})
    pipeline = open_pipeline(faults, RUNNING, policy=IMPATIENT)
    requests = make_requests(4)

    first = pipeline.run(requests)

    assert (first.stored, first.failed, first.created) == (0, 4, 4)
    assert all("paid, not stored yet, about 59 minutes left" in each for each in reasons(pipeline))
    faults.lasting.clear()  # it has passed
    pipeline.reopen()
    assert pipeline.run(requests).complete
    assert states(pipeline) == {State.STORED}
    assert pipeline.created == 4


@pytest.mark.parametrize("fault", ["downloads_404", "polls_404"])
def test_what_answers_404_beyond_its_lifetime_is_expired_once(
    open_pipeline: Open, fault: str
) -> None:
    faults = FaultPlan.model_validate({"lasting": {fault: FOR_EVER}})
    pipeline = open_pipeline(faults, RUNNING, policy=IMPATIENT)
    requests = make_requests(2)
    pipeline.run(requests)
    assert State.EXPIRED not in states(pipeline)

    pipeline.reopen(later=HOURS)
    pipeline.run(requests)

    assert states(pipeline) == {State.EXPIRED}
    notices = [line for result in pipeline.reports[0].results for line in result.notices]
    assert len(notices) == 2
    assert all("paid and lost" in line for line in notices)
    calls = pipeline.server.usage().requests_by_route
    pipeline.run(requests)
    assert not any(result.notices for result in pipeline.reports[0].results)
    assert pipeline.server.usage().requests_by_route == calls


def test_an_image_that_was_stored_is_kept_when_another_of_its_prediction_is_lost(
    open_behind_files: Open, files: S3Proxy
) -> None:
    pipeline = open_behind_files(policy=IMPATIENT)
    allow_files(pipeline)
    files.choose = lambda seen: Reply(404) if "/out-1" in seen.path else None
    requests = make_requests(1, num_outputs=2)
    assert pipeline.run(requests).stored == 1
    assert len(pipeline.ledger.unfinished()) == 1

    files.choose = lambda _: Reply(404)
    pipeline.reopen(later=HOURS)
    pipeline.run(requests)

    by_index = {record.output_index: record for record in pipeline.reports[0].records}
    assert [by_index[0].status, by_index[1].status] == [ImageStatus.STORED, ImageStatus.FAILED]
    assert by_index[0].uri is not None
    assert states(pipeline) == {State.STORED}
    assert any("paid and lost" in each for each in pipeline.reports[0].results[0].notices)


@pytest.mark.parametrize("is_stored", [True, False])
def test_an_image_whose_run_died_before_the_ledger_knew_is_not_called_lost(
    open_pipeline: Open, is_stored: bool
) -> None:
    pipeline = open_pipeline(policy=IMPATIENT)
    requests = make_requests(1)
    pipeline.run(requests)
    change_ledger(pipeline, "UPDATE flux_attempts SET state = 'accepted'")
    if not is_stored:
        shutil.rmtree(pipeline.folder / "store" / "images")
    other = open_pipeline(policy=IMPATIENT)  # a provider that knows none of it any more
    other.ledger.dispose()
    other.reopen(later=HOURS)

    tally = other.run(requests)

    assert (tally.stored, tally.created) == (int(is_stored), 0)
    assert states(other) == {State.STORED if is_stored else State.EXPIRED}


@pytest.mark.parametrize("fault", ["failed_memory", "failed_exitcode", "failed_unknown"])
def test_a_failure_of_the_provider_is_asked_again_by_the_next_run(
    open_pipeline: Open, fault: str
) -> None:
    pipeline = open_pipeline(FaultPlan.model_validate({"outcome": {fault: 1.0}, "cap": 1}))
    requests = make_requests(4)

    first = pipeline.run(requests)
    assert (first.failed, first.created) == (4, 4)
    assert all(each.endswith("; the next run asks again") for each in reasons(pipeline))

    pipeline.reopen()
    assert pipeline.run(requests).stored == 4
    assert pipeline.created == 8


def test_a_failure_that_comes_again_is_asked_for_until_the_tries_are_used_up(
    open_pipeline: Open,
) -> None:
    faults = FaultPlan.model_validate({"outcome": {"failed_memory": 1.0}, "cap": 1000})
    pipeline = open_pipeline(faults, policy=replace(POLICY, failed_tries=3))
    requests = make_requests(2)

    for _ in range(5):
        pipeline.run(requests)
        pipeline.reopen()

    assert pipeline.created == 3 * 2
    assert all(each.endswith("`flux-pipeline retry` asks again") for each in reasons(pipeline))


def test_the_same_failure_of_all_stops_creates(open_pipeline: Open) -> None:
    faults = FaultPlan.model_validate({"outcome": {"failed_memory": 1.0}, "cap": 1000})
    pipeline = open_pipeline(faults, concurrency=4)

    tally = pipeline.run(make_requests(60))

    assert tally.failed == 60
    assert 5 <= pipeline.created < 5 + 4
    assert any("5 times in a row a prediction failed" in each for each in reasons(pipeline))


@pytest.mark.parametrize("code", [400, 404, 405, 413, 415])
def test_a_rejected_call_stops_the_run_and_the_right_address_makes_all(
    open_pipeline: Open, code: int
) -> None:
    wrong = open_pipeline(
        FaultPlan.model_validate({"lasting": {f"creates_{code}": FOR_EVER}}), concurrency=2
    )
    requests = make_requests(20)

    first = wrong.run(requests)

    assert (first.failed, first.created, wrong.created) == (20, 0, 0)
    assert wrong.received <= 2  # those that were under way with the first
    assert stops(wrong) == {Stop.REJECTED}
    assert any(f"answered {code}" in each for each in reasons(wrong))
    assert states(wrong) <= {State.UNSENT}

    right = open_pipeline()
    assert right.run(requests).stored == 20
    assert right.created == 20


def test_a_wrong_prefix_loses_nothing_that_is_under_way(open_pipeline: Open) -> None:
    """Polls answer 404 there too."""
    elsewhere = FaultPlan.model_validate({"lasting": {"downloads_404": FOR_EVER}})
    pipeline = open_pipeline(elsewhere, policy=IMPATIENT)
    requests = make_requests(8)
    pipeline.run(requests[:4])
    right, pipeline.server.origin = pipeline.server.origin, f"{pipeline.server.origin}/v2"
    pipeline.reopen()

    wrong = pipeline.run(requests)
    # Where the first rejection comes early, the rest is not sent at all.
    assert (wrong.stored, wrong.failed + wrong.unsent) == (0, 8)

    pipeline.server.origin = right
    elsewhere.lasting.clear()
    pipeline.policy = PATIENT
    pipeline.reopen()
    assert pipeline.run(requests).stored == 8
    assert pipeline.created == 8


def test_a_call_that_is_rejected_after_others_were_accepted_is_that_requests_alone(
    open_pipeline: Open,
) -> None:
    faults = FaultPlan.model_validate(
        {"create": {"error_object": 1.0}, "cap": 1000, "only_prompts": "prompt 1"}
    )
    pipeline = open_pipeline(faults, concurrency=1)

    tally = pipeline.run(make_requests(3))

    assert (tally.stored, tally.failed) == (2, 1)
    assert pipeline.ledger.in_state(State.REFUSED) == []


def test_a_ledger_restored_from_a_backup_pays_for_nothing_again(pipeline: Pipeline) -> None:
    requests = make_requests(12)
    pipeline.run(requests[:4])
    pipeline.ledger.dispose()
    database = pipeline.folder / "ledger.db"
    backup = database.read_bytes()
    pipeline.reopen()
    pipeline.run(requests)
    pipeline.ledger.dispose()
    for path in pipeline.folder.glob("ledger.db*"):
        if path.is_file():
            path.unlink()
    database.write_bytes(backup)
    pipeline.reopen()

    tally = pipeline.run(requests)

    assert (tally.unchanged, tally.failed, tally.created, pipeline.created) == (4, 8, 0, 12)
    assert stops(pipeline) == {None, Stop.LEDGER}
    assert any("flux-pipeline reindex" in each for each in reasons(pipeline))


def test_an_image_that_is_stored_under_its_older_name_is_not_paid_again(
    pipeline: Pipeline,
) -> None:
    """The first release named a prompt after its hash, and the ledger is lost."""
    (request,) = make_requests(1)
    older = replace(request.source, prompt_name="a-x-f6f854a2")
    newer = replace(older, prompt_name="a-cheng-bao-f6f854a2", stable_name="a-x-f6f854a2")
    pipeline.run([replace(request, source=older)])
    pipeline.ledger.dispose()
    for path in pipeline.folder.glob("ledger.db*"):
        if path.is_file():
            path.unlink()
    pipeline.reopen()

    tally = pipeline.run([replace(request, source=newer)])

    assert (tally.failed, pipeline.created, stops(pipeline)) == (1, 1, {Stop.LEDGER})


def test_what_another_run_stores_meanwhile_stops_nothing(open_pipeline: Open) -> None:
    """Each run has looked at the ledger before the other one began."""
    slow = open_pipeline(None, RUNNING, concurrency=1)
    ledger = open_ledger(f"sqlite:///{slow.folder}/ledger.db", lease_seconds=POLICY.lease)
    quick = replace(slow, ledger=ledger, concurrency=16, runs=100, reports=[])
    requests = make_requests(20)

    def run_the_other(_: PartitionReport) -> None:
        if not quick.reports:
            quick.run(requests)

    tally = slow.run(requests, split=1, on_report=run_the_other)

    ledger.dispose()
    assert tally.stored + tally.unchanged == 20
    assert (stops(slow), slow.created) == ({None}, 20)


def test_predictions_found_in_the_list_count_in_the_runs_cost(open_pipeline: Open) -> None:
    pipeline = open_pipeline(FaultPlan(create={"reset_after": 0.5}, cap=1))

    tally = pipeline.run(make_requests(30))

    assert "create.reset_after" in pipeline.server.usage().faults
    assert tally.created == pipeline.created == 30
    assert tally.usd == pytest.approx(pipeline.server.usage().charged_usd)


def test_a_rescue_stores_what_a_wrong_setting_left(open_behind_files: Open) -> None:
    pipeline = open_behind_files(output_networks=("127.0.0.1/32",))
    requests = make_requests(3)
    assert pipeline.run(requests).created == 3
    allow_files(pipeline)
    pipeline.reopen()
    pipeline.policy = replace(POLICY, may_create=False)

    tally = pipeline.run(requests)
    assert tally.stored == 3, reasons(pipeline)
    assert len(keys(pipeline, "images/")) == 3
