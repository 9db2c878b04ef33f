"""What a dead worker left is finished from the ledger alone, and nothing is created."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from flux_pipeline.audit.rescue import Rescued, rescue, rescue_expired
from flux_pipeline.audit.verify import verify
from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.ledger.base import Claimed, Intent, State
from flux_pipeline.ledger.codec import dump_reply, dump_request
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.lineage.query import find_exact, open_snapshot
from flux_pipeline.lineage.record import ImageRecord
from flux_pipeline.produce.report import Tally
from flux_pipeline.request import Request
from flux_pipeline.store.open import open_store
from flux_pipeline.store.unavailable import UnavailableStore
from tests.audit.unfinished import accept, create, intend
from tests.produce.pipeline import POLICY, QUICK, Pipeline, change_ledger, keys, make_requests
from tests.servers.fork_server import context

Open = Callable[..., Pipeline]
SLOW = EmulatorOptions(time_scale=0.2, creates_per_minute=None, render="cheap")
NO_LIST = QUICK.model_copy(update={"list_enabled": False})


def run_rescue(pipeline: Pipeline, **more: float) -> Rescued:
    return rescue(pipeline.producer, run_id="rescue-1", **({"older_than": 0.0} | more))


def rows(pipeline: Pipeline) -> list[ImageRecord]:
    return find_exact(open_snapshot(pipeline.store), "prompt_set", "set", limit=None)


def test_nothing_left_is_nothing_done(pipeline: Pipeline) -> None:
    pipeline.run(make_requests(2))
    before = keys(pipeline, "")

    done = run_rescue(pipeline)

    assert (done.found, done.complete, dict(done.states)) == (0, True, {})
    assert keys(pipeline, "") == before


def test_what_was_accepted_is_finished_by_id(pipeline: Pipeline) -> None:
    requests = make_requests(3, num_outputs=2)
    paid = [accept(pipeline, request).id for request in requests]

    done = run_rescue(pipeline)

    assert (done.found, dict(done.states), done.complete) == (3, {State.STORED: 3}, True)
    assert pipeline.created == 3
    assert pipeline.ledger.unfinished() == []
    assert verify(pipeline.producer, deep=True).ok
    assert {row.prediction_id for row in rows(pipeline)} == set(paid)
    assert pipeline.run(requests) == Tally(asked=6, unchanged=6)


def test_rows_are_written_as_the_run_of_the_prompt_set_would_have(pipeline: Pipeline) -> None:
    for number, request in enumerate(make_requests(4)):
        partition = f"shard-{number % 2}"
        accept(pipeline, replace(request, source=replace(request.source, partition=partition)))

    run_rescue(pipeline)

    names = {key.rpartition("/")[2].partition("-rescue")[0] for key in keys(pipeline, "lineage/")}
    # One of them where both end at the same moment: partitions share a part then.
    assert names <= {"set-images-shard-0", "set-images-shard-1"}
    assert {row.partition for row in rows(pipeline)} == {"shard-0", "shard-1"}
    assert {row.asset for row in rows(pipeline)} == {"set/images"}
    assert {row.run_id for row in rows(pipeline)} == {"run-0"}, "the run that paid"


def test_what_was_claimed_within_two_minutes_is_left_to_its_run_while_that_lives(
    pipeline: Pipeline,
) -> None:
    (request,) = make_requests(1)
    sha = request.request_sha256
    with open_ledger(f"sqlite:///{pipeline.folder}/ledger.db") as other:
        intent = Intent(sha, "set", "run-0", 3000, dump_request(request))
        held = other.claim(intent, holder="alive")
        assert isinstance(held, Claimed)
        reply = dump_reply(prediction := create(pipeline, request))
        other.accept(held.attempt, prediction_id=prediction.id, reply=reply)
        calls = pipeline.server.usage().requests_by_route

        assert run_rescue(pipeline, older_than=120.0).found == 0
        assert pipeline.server.usage().requests_by_route == calls

    # Its process is gone: nobody else goes on with it, and its outputs don't wait.
    assert dict(run_rescue(pipeline, older_than=120.0).states) == {State.STORED: 1}


def test_what_another_worker_holds_is_waited_for_and_not_taken(pipeline: Pipeline) -> None:
    (request,) = make_requests(1)
    accept(pipeline, request)
    sha = request.request_sha256
    url = f"sqlite:///{pipeline.folder}/ledger.db"
    with open_ledger(url, lease_seconds=1.0) as other:
        intent = Intent(sha, "set", "run-0", 3000, dump_request(request))
        held = other.claim(intent, holder="alive")
        assert isinstance(held, Claimed)

        done = run_rescue(pipeline)

    assert dict(done.states) == {State.STORED: 1}
    # By the ledger's own times: however slow we are, it was taken over after the lease.
    taken_at = pipeline.ledger.find([sha])[sha].claimed_at
    assert taken_at - held.attempt.claimed_at > 0.9


def test_a_lost_answer_is_found_in_the_list_and_finished(pipeline: Pipeline) -> None:
    (request,) = make_requests(1)
    paid = create(pipeline, request)
    intend(pipeline, request)

    done = run_rescue(pipeline)

    assert (dict(done.states), pipeline.created) == ({State.STORED: 1}, 1)
    assert [row.prediction_id for row in rows(pipeline)] == [paid.id]


def test_an_intent_that_was_never_sent_is_closed_and_waits_for_its_run(pipeline: Pipeline) -> None:
    (request,) = make_requests(1)
    intend(pipeline, request)

    done = run_rescue(pipeline)

    assert (dict(done.states), done.complete, pipeline.received) == ({State.UNSENT: 1}, True, 0)
    assert pipeline.run([request]) == Tally(asked=1, stored=1, created=1, usd=0.003)


def test_what_can_not_be_settled_is_held_where_the_policy_says_so(open_pipeline: Open) -> None:
    pipeline = open_pipeline(None, NO_LIST, policy=replace(POLICY, unknown="hold"))
    (request,) = make_requests(1)
    intend(pipeline, request)

    done = run_rescue(pipeline)

    assert (dict(done.states), done.complete) == ({State.HELD: 1}, False)
    assert pipeline.received == 0


def test_what_can_not_be_settled_is_sent_again_by_the_next_run_and_not_here(
    open_pipeline: Open,
) -> None:
    pipeline = open_pipeline(None, NO_LIST)
    (request,) = make_requests(1)
    intend(pipeline, request)

    done = run_rescue(pipeline)

    assert (dict(done.states), done.complete, pipeline.received) == ({State.RESENT: 1}, False, 0)
    assert "possibly paid twice" in done.notices[0]
    assert pipeline.run([request]).stored == 1


def test_outputs_that_are_gone_are_said_to_be_lost(open_pipeline: Open) -> None:
    pipeline = open_pipeline(None, QUICK.model_copy(update={"retention_seconds": 0.0}))
    (request,) = make_requests(1)
    paid = accept(pipeline, request)

    done = run_rescue(pipeline)

    assert (dict(done.states), done.complete) == ({State.EXPIRED: 1}, False)
    assert done.notices[0].startswith(f"paid and lost: prediction {paid.id}")


def test_images_without_lineage_rows_get_them(pipeline: Pipeline) -> None:
    pipeline.run(make_requests(3))
    before = sorted(rows(pipeline), key=lambda row: row.request_sha256)
    for key in keys(pipeline, "lineage/"):
        (pipeline.folder / "store" / key).unlink()
    change_ledger(pipeline, "UPDATE flux_attempts SET recorded = 0")

    done = run_rescue(pipeline)

    assert dict(done.states) == {State.STORED: 3}
    assert sorted(rows(pipeline), key=lambda row: row.request_sha256) == before
    assert pipeline.ledger.unfinished() == []


def test_one_request_that_can_not_be_read_does_not_keep_the_others(pipeline: Pipeline) -> None:
    broken, whole = make_requests(2)
    for request in (broken, whole):
        accept(pipeline, request)
    sha = broken.request_sha256
    change_ledger(
        pipeline, f"UPDATE flux_attempts SET request_json = '' WHERE request_sha256 = '{sha}'"
    )

    done = run_rescue(pipeline)

    assert (list(done.unreadable), done.complete) == ([sha], False)
    assert dict(done.states) == {State.STORED: 1}
    assert [each.request_sha256 for each in pipeline.ledger.unfinished()] == [sha]


def test_a_failing_store_leaves_everything_for_the_next_rescue(pipeline: Pipeline) -> None:
    for request in make_requests(2):
        accept(pipeline, request)
    blocked = pipeline.folder / "store" / "images"
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("a file where the folder should be")

    first = run_rescue(pipeline)
    assert not first.complete

    blocked.unlink()
    pipeline.reopen()
    assert dict(run_rescue(pipeline).states) == {State.STORED: 2}
    assert pipeline.created == 2


def test_a_rescue_of_two_prompt_sets_keeps_them_apart(pipeline: Pipeline) -> None:
    for steps, name in enumerate(("one", "two"), 1):
        (request,) = make_requests(1, prompt_set=name, num_inference_steps=steps)
        accept(pipeline, request)

    assert dict(run_rescue(pipeline).states) == {State.STORED: 2}
    names = [key.rpartition("/")[2] for key in keys(pipeline, "lineage/")]
    assert [name[:10] for name in names] == ["one-images", "two-images"]


@dataclass(frozen=True)
class Origin:
    """All that a pipeline in another process needs to know of the server."""

    origin: str


def make_images(folder: Path, origin: str, count: int) -> None:
    with open_ledger(f"sqlite:///{folder}/ledger.db", lease_seconds=POLICY.lease) as ledger:
        store = open_store(f"file:{folder}/store")
        Pipeline(Origin(origin), ledger, store, folder).run(make_requests(count))  # type: ignore[arg-type]


def wait_for_quiet(pipeline: Pipeline) -> int:
    """What the provider accepted, once all that a dead client had sent was read and answered."""
    httpx.get(f"{pipeline.server.origin}/v1/predictions", trust_env=False)
    patience = time.monotonic() + 60  # the worker may have died within its request
    while pipeline.received > pipeline.created and time.monotonic() < patience:
        time.sleep(0.01)
    return pipeline.created


@pytest.mark.parametrize("moment", [1, 8])
def test_a_killed_worker_loses_nothing_and_pays_for_nothing_twice(
    open_pipeline: Open, moment: int
) -> None:
    pipeline = open_pipeline(None, SLOW)
    requests = make_requests(20)
    arguments = (pipeline.folder, pipeline.server.origin, len(requests))
    worker = context().Process(target=make_images, args=arguments, daemon=True)
    worker.start()
    patience = time.monotonic() + 600
    while pipeline.created < moment and time.monotonic() < patience:
        time.sleep(0.01)
    worker.kill()
    worker.join()
    paid = wait_for_quiet(pipeline)
    assert paid >= moment

    done = run_rescue(pipeline)

    assert done.complete
    assert pipeline.created == paid
    assert len(keys(pipeline, "images/")) == paid
    assert verify(pipeline.producer, deep=True).ok
    tally = pipeline.run(requests)
    assert (tally.unchanged, tally.stored, pipeline.created) == (paid, 20 - paid, 20)


def test_without_its_store_every_prompt_set_is_fetched_and_the_store_is_named(
    pipeline: Pipeline,
) -> None:
    for steps, name in enumerate(("one", "two"), 1):
        (request,) = make_requests(1, prompt_set=name, num_inference_steps=steps)
        accept(pipeline, request)
    store, pipeline.store = pipeline.store, UnavailableStore("s3://bucket", "is not mounted")

    done = run_rescue(pipeline)

    assert (done.complete, str(done.store_error)) == (False, "is not mounted")
    assert len(pipeline.producer.spool) == 2
    pipeline.store = store
    pipeline.reopen()
    assert dict(run_rescue(pipeline).states) == {State.STORED: 2}
    assert len(pipeline.producer.spool) == 0


class TestExpired:
    """What was believed to be gone is looked for by its id, and nothing is created."""

    def expire(self, pipeline: Pipeline, count: int = 2) -> list[Request]:
        """As an earlier version closed what had answered 404 for some seconds."""
        requests = make_requests(count)
        pipeline.run(requests)
        for key in keys(pipeline, ""):
            (pipeline.folder / "store" / key).unlink()
        change_ledger(pipeline, "UPDATE flux_attempts SET state = 'expired', images = '[]'")
        pipeline.reopen()
        return requests

    def test_it_is_stored_while_the_provider_has_it(self, pipeline: Pipeline) -> None:
        requests = self.expire(pipeline)
        assert run_rescue(pipeline).found in {0, 2}

        done = rescue_expired(pipeline.producer, run_id="rescue-2")

        assert (done.found, dict(done.states), done.complete) == (2, {State.STORED: 2}, True)
        assert pipeline.run(requests) == Tally(asked=2, unchanged=2)
        assert pipeline.created == 2
        assert verify(pipeline.producer, deep=True).ok

    def test_it_is_expired_once_more_where_it_is_gone(self, open_pipeline: Open) -> None:
        late = replace(POLICY, output_lifetime=0.0, gone_patience=0.1)
        pipeline = open_pipeline(
            None, QUICK.model_copy(update={"retention_seconds": 0.0}), policy=late
        )
        accept(pipeline, make_requests(1)[0])
        assert dict(run_rescue(pipeline).states) == {State.EXPIRED: 1}
        pipeline.reopen()

        done = rescue_expired(pipeline.producer, run_id="rescue-2")

        assert (done.found, dict(done.states), done.complete) == (1, {State.EXPIRED: 1}, False)
        assert done.notices[0].startswith("paid and lost: prediction ")
        assert pipeline.created == 1

    def test_what_an_earlier_version_closed_as_failed_is_looked_for_too(
        self, pipeline: Pipeline
    ) -> None:
        self.expire(pipeline)
        failed = "paid, not stored: output 0: host cdn.example is not among FLUX_OUTPUT_HOSTS"
        change_ledger(pipeline, f"UPDATE flux_attempts SET state = 'failed', error = '{failed}'")

        done = rescue_expired(pipeline.producer, run_id="rescue-2")

        assert dict(done.states) == {State.STORED: 2}

    def test_what_really_failed_is_left_as_it_is(self, open_pipeline: Open) -> None:
        pipeline = open_pipeline(FaultPlan(outcome={"failed_nsfw": 1.0}))
        pipeline.run(make_requests(2))
        before = list(pipeline.ledger.attempts())

        assert rescue_expired(pipeline.producer, run_id="rescue-2").found == 0
        assert list(pipeline.ledger.attempts()) == before
