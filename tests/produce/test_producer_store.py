"""A store that fails stops creates; what is in flight is fetched, and stored by a later run."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import pytest

from flux_pipeline.emulator.faults import FaultPlan, Phase
from flux_pipeline.errors import StoreError
from flux_pipeline.ledger.base import State
from flux_pipeline.lineage.parts import list_parts, read_parts
from flux_pipeline.lineage.schema import batch_to_records
from flux_pipeline.produce.report import Result, Stop, observing
from flux_pipeline.store.open import open_store
from flux_pipeline.store.unavailable import UnavailableStore
from tests.audit.unfinished import create, intend
from tests.produce.pipeline import POLICY, Pipeline, keys, make_requests
from tests.servers.s3 import S3Server
from tests.servers.s3_proxy import Reply, S3Proxy, Seen, s3_error, s3_proxy

Open = Callable[..., Pipeline]
HOURS = 2 * 3600.0
EXPIRED = s3_error(403, "ExpiredToken")
"""As it comes in the middle of a run whose credentials are for an hour; S3's client tries once."""


class Refusing:
    """Answers PUTs below a prefix with an error, from the n-th on and so often."""

    def __init__(self, prefix: str, *, after: int = 0, times: float = 1e9) -> None:
        self.prefix, self.after, self.times = prefix, after, times
        self.seen = 0

    def __call__(self, seen: Seen) -> Reply | None:
        if seen.method != "PUT" or self.prefix not in seen.path:
            return None
        self.seen += 1
        return EXPIRED if self.after < self.seen <= self.after + self.times else None


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Proxy]:
    """A proxy before the S3 server, which boto3 finds."""
    with s3_proxy(s3_server.endpoint) as proxy:
        variables = {**s3_server.environment(), "AWS_ENDPOINT_URL_S3": proxy.endpoint}
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield proxy


@pytest.fixture
def on_s3(open_pipeline: Open, bucket: S3Proxy, s3_server: S3Server) -> Pipeline:
    pipeline = open_pipeline()
    pipeline.store = open_store(f"s3://{s3_server.new_bucket()}/pictures")
    pipeline.store.check()
    bucket.seen.clear()
    return pipeline


def downloads(pipeline: Pipeline) -> int:
    return pipeline.server.usage().requests_by_route["GET /output/{id}"]


def rows(pipeline: Pipeline) -> set[str]:
    """Requests of which the lineage shows an image."""
    parts = read_parts(pipeline.store, list_parts(pipeline.store))
    return {row.request_sha256 for _, part in parts for row in batch_to_records(part) if row.uri}


def test_a_store_that_begins_to_refuse_stops_creates_and_loses_nothing(
    on_s3: Pipeline, bucket: S3Proxy
) -> None:
    requests = make_requests(80)
    bucket.choose = Refusing("/", after=10)

    with pytest.raises(StoreError, match="ExpiredToken"):
        on_s3.run(requests)

    created = on_s3.created
    assert 10 <= created <= 10 + on_s3.concurrency
    open_now = [attempt for attempt in on_s3.ledger.attempts() if attempt.state.is_open]
    assert len(on_s3.spool) == len(open_now) == created - 10
    results = [result for report in on_s3.reports for result in report.results]
    assert {result.stop for result in results} <= {None, Stop.STORE}
    assert sum(result.stop is Stop.STORE for result in results) == 80 - created
    assert any("nothing more is created while the store fails" in each.reason for each in results)

    bucket.choose = lambda _: None
    on_s3.reopen()
    tally = on_s3.run(requests)

    assert (tally.stored + tally.unchanged, on_s3.created, downloads(on_s3)) == (80, 80, 80)
    assert len(on_s3.spool) == 0
    assert rows(on_s3) == {request.request_sha256 for request in requests}


def test_a_refusal_that_passes_only_holds_the_run_up(on_s3: Pipeline, bucket: S3Proxy) -> None:
    bucket.choose = Refusing("images/", after=5, times=8)

    tally = on_s3.run(make_requests(40))

    assert (tally.stored, tally.created, downloads(on_s3)) == (40, 40, 40)
    assert len(on_s3.spool) == 0


def test_a_store_that_can_not_be_read_is_asked_a_few_times_in_all(
    on_s3: Pipeline, bucket: S3Proxy
) -> None:
    bucket.choose = lambda seen: EXPIRED if seen.method == "HEAD" else None

    with pytest.raises(StoreError, match="403 on HeadObject"):
        on_s3.run(make_requests(200))

    results = on_s3.reports[0].results
    assert {result.stop for result in results} == {Stop.STORE}
    assert (len(results), on_s3.received) == (200, 0)
    assert bucket.count("HEAD") < 200


def test_lineage_that_can_not_be_written_ends_the_run_after_all_is_stored(
    on_s3: Pipeline, bucket: S3Proxy
) -> None:
    requests = make_requests(20)
    bucket.choose = Refusing("lineage/")

    with pytest.raises(StoreError, match="ExpiredToken"):
        on_s3.run(requests, split=1)

    assert len(keys(on_s3, "images/")) == on_s3.created == 20
    assert rows(on_s3) == set()
    bucket.choose = lambda _: None
    assert on_s3.run(requests).unchanged == 20
    assert rows(on_s3) == {request.request_sha256 for request in requests}


def test_a_folder_that_is_moved_away_in_a_run_is_not_made_anew(pipeline: Pipeline) -> None:
    requests = make_requests(60)
    pipeline.store.check()
    pipeline.concurrency = 4
    folder, away = pipeline.folder / "store", pipeline.folder / "away"

    def move(_: Result) -> None:
        if not away.exists():
            folder.rename(away)

    with observing(move), pytest.raises(StoreError, match="is gone: was it moved"):
        pipeline.run(requests)

    assert not folder.exists()
    away.rename(folder)
    pipeline.reopen()
    tally = pipeline.run(requests)
    assert tally.stored + tally.unchanged == 60
    assert (pipeline.created, downloads(pipeline)) == (60, 60)


def test_what_waits_on_disk_is_stored_when_its_outputs_are_gone(open_pipeline: Open) -> None:
    pipeline = open_pipeline(policy=replace(POLICY, gone_patience=0.05))
    requests = make_requests(3)
    blocked = pipeline.folder / "store" / "images"
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("a file where the folder should be")
    assert pipeline.run(requests).created == 3
    assert len(pipeline.spool) == 3

    blocked.unlink()
    other = open_pipeline(policy=pipeline.policy)  # a provider that knows none of it any more
    other.ledger.dispose()
    other.reopen(later=HOURS)
    tally = other.run(requests)

    assert (tally.stored, other.received, len(other.spool)) == (3, 0, 0)


def test_a_create_without_an_answer_is_settled_while_the_store_is_away(
    pipeline: Pipeline,
) -> None:
    paid, never_sent = make_requests(2)
    for request in (paid, never_sent):
        intend(pipeline, request)
    create(pipeline, paid)
    store = pipeline.store
    pipeline.store = UnavailableStore(store.uri, "the disk is not mounted")

    with pytest.raises(StoreError, match="not mounted"):
        pipeline.run([paid, never_sent])

    states = {each.request_sha256: each.state for each in pipeline.ledger.attempts()}
    assert states[never_sent.request_sha256] is State.UNSENT
    assert (len(pipeline.spool), pipeline.created) == (1, 1)
    pipeline.store = store
    pipeline.reopen()
    assert pipeline.run([paid, never_sent]).stored == 2
    assert pipeline.created == 2


class GoneAfterOneDownload(FaultPlan):
    def rates(self, phase: Phase) -> Mapping[str, float]:
        return {"not_found": 1.0} if phase == "download" else {}

    def drawn(self, phase: Phase, identity: str, times: int, hits: int) -> str | None:
        return "not_found" if times else None


def test_a_request_that_ends_without_an_image_holds_up_no_other(
    open_pipeline: Open, bucket: S3Proxy, s3_server: S3Server
) -> None:
    """The store refuses it once, nothing can be kept on disk, and then its output is gone."""
    policy = replace(POLICY, gone_patience=0.05)
    faults = GoneAfterOneDownload(only_prompts="prompt 0")
    pipeline = open_pipeline(faults, policy=policy, concurrency=1)
    pipeline.store = open_store(f"s3://{s3_server.new_bucket()}/pictures")
    pipeline.store.check()
    (pipeline.folder / "spool").write_text("a file where the folder should be")
    bucket.choose = Refusing("images/", times=2)  # the PUT, and the one by boto3 after it

    tally = pipeline.run(make_requests(3))

    assert (tally.stored, tally.failed, pipeline.created) == (2, 1, 3)


def test_with_a_store_that_is_away_what_is_accepted_is_fetched_and_nothing_created(
    pipeline: Pipeline,
) -> None:
    requests = make_requests(6)
    store = pipeline.store
    pipeline.store = UnavailableStore(store.uri, "the disk is not mounted")
    with pytest.raises(StoreError, match="not mounted"):
        pipeline.run(requests)
    assert pipeline.received == 0

    pipeline.store = store
    blocked = pipeline.folder / "store" / "images"
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("a file where the folder should be")
    pipeline.run(requests[:3])
    for path in pipeline.spool.folder.iterdir():
        path.unlink()
    pipeline.store = UnavailableStore(store.uri, "the disk is not mounted")
    pipeline.reopen()
    with pytest.raises(StoreError, match="not mounted"):
        pipeline.run(requests)
    assert (len(pipeline.spool), pipeline.created) == (3, 3)

    blocked.unlink()
    pipeline.store = store
    pipeline.reopen()
    assert pipeline.run(requests).stored == 6
    assert pipeline.created == 6
    assert pipeline.ledger.in_state(State.EXPIRED) == []
