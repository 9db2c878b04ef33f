"""What a dead worker left is finished from the ledger alone, and nothing is created."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from flux_pipeline.audit.rescue import Rescued, rescue
from flux_pipeline.audit.verify import verify
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.ledger.base import Claimed, Intent, State
from flux_pipeline.ledger.codec import dump_request
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.lineage.query import find_exact, open_snapshot
from flux_pipeline.lineage.record import ImageRecord
from flux_pipeline.produce.report import Tally
from flux_pipeline.store.open import open_store
from tests.audit.leftovers import accept, create, intend
from tests.produce.conftest import POLICY, QUICK, Bench, make_requests
from tests.produce.test_producer import change_ledger, keys
from tests.servers.processes import context

Open = Callable[..., Bench]
SLOW = EmulatorOptions(time_scale=0.2, creates_per_minute=None, render="cheap")
NO_LIST = QUICK.model_copy(update={"list_enabled": False})


def run_rescue(bench: Bench, **more: float) -> Rescued:
    return rescue(bench.producer, run_id="rescue-1", **({"older_than": 0.0} | more))


def rows(bench: Bench) -> list[ImageRecord]:
    return find_exact(open_snapshot(bench.store), "prompt_set", "set", limit=None)


def test_nothing_left_is_nothing_done(bench: Bench) -> None:
    bench.run(make_requests(2))
    before = keys(bench, "")

    done = run_rescue(bench)

    assert (done.found, done.complete, dict(done.states)) == (0, True, {})
    assert keys(bench, "") == before


def test_what_was_accepted_is_finished_by_id(bench: Bench) -> None:
    requests = make_requests(3, num_outputs=2)
    paid = [accept(bench, request).id for request in requests]

    done = run_rescue(bench)

    assert (done.found, dict(done.states), done.complete) == (3, {State.STORED: 3}, True)
    assert bench.created == 3
    assert bench.ledger.unfinished() == []
    assert verify(bench.producer, deep=True).ok
    assert {row.prediction_id for row in rows(bench)} == set(paid)
    assert bench.run(requests) == Tally(asked=6, unchanged=6)


def test_rows_are_written_as_the_run_of_the_prompt_set_would_have(bench: Bench) -> None:
    for number, request in enumerate(make_requests(4)):
        partition = f"shard-{number % 2}"
        accept(bench, replace(request, source=replace(request.source, partition=partition)))

    run_rescue(bench)

    names = [key.rpartition("/")[2] for key in keys(bench, "lineage/")]
    assert [name.partition("-rescue")[0] for name in names] == [
        "set-images-shard-0",
        "set-images-shard-1",
    ]
    assert {row.asset for row in rows(bench)} == {"set/images"}
    assert {row.run_id for row in rows(bench)} == {"run-0"}, "the run that paid"


def test_what_was_claimed_within_two_minutes_is_left_to_its_run(bench: Bench) -> None:
    (request,) = make_requests(1)
    accept(bench, request)
    calls = bench.server.ledger().requests_by_route

    assert run_rescue(bench, older_than=120.0).found == 0
    assert bench.server.ledger().requests_by_route == calls

    bench.reopen(later=130.0)
    assert dict(run_rescue(bench, older_than=120.0).states) == {State.STORED: 1}


def test_what_another_worker_holds_is_waited_for_and_not_taken(bench: Bench) -> None:
    (request,) = make_requests(1)
    accept(bench, request)
    sha = request.request_sha256
    url = f"sqlite:///{bench.folder}/ledger.db"
    with open_ledger(url, lease_seconds=1.0) as other:
        intent = Intent(sha, "set", "run-0", 3000, dump_request(request))
        held = other.claim(intent, holder="alive")
        assert isinstance(held, Claimed)

        done = run_rescue(bench)

    assert dict(done.states) == {State.STORED: 1}
    # By the ledger's own times: however slow we are, it was taken over after the lease.
    taken_at = bench.ledger.find([sha])[sha].claimed_at
    assert taken_at - held.attempt.claimed_at > 0.9


def test_a_lost_answer_is_found_in_the_list_and_finished(bench: Bench) -> None:
    (request,) = make_requests(1)
    paid = create(bench, request)
    intend(bench, request)

    done = run_rescue(bench)

    assert (dict(done.states), bench.created) == ({State.STORED: 1}, 1)
    assert [row.prediction_id for row in rows(bench)] == [paid.id]


def test_an_intent_that_was_never_sent_is_closed_and_waits_for_its_run(bench: Bench) -> None:
    (request,) = make_requests(1)
    intend(bench, request)

    done = run_rescue(bench)

    assert (dict(done.states), done.complete, bench.received) == ({State.UNSENT: 1}, True, 0)
    assert bench.run([request]) == Tally(asked=1, stored=1, created=1, usd=0.003)


def test_what_can_not_be_settled_is_held_where_the_policy_says_so(open_bench: Open) -> None:
    bench = open_bench(None, NO_LIST, policy=replace(POLICY, unknown="hold"))
    (request,) = make_requests(1)
    intend(bench, request)

    done = run_rescue(bench)

    assert (dict(done.states), done.complete) == ({State.HELD: 1}, False)
    assert bench.received == 0


def test_what_can_not_be_settled_is_sent_again_by_the_next_run_and_not_here(
    open_bench: Open,
) -> None:
    bench = open_bench(None, NO_LIST)
    (request,) = make_requests(1)
    intend(bench, request)

    done = run_rescue(bench)

    assert (dict(done.states), done.complete, bench.received) == ({State.RESENT: 1}, False, 0)
    assert "possibly paid twice" in done.notices[0]
    assert bench.run([request]).stored == 1


def test_outputs_that_are_gone_are_said_to_be_lost(open_bench: Open) -> None:
    bench = open_bench(None, QUICK.model_copy(update={"retention_seconds": 0.0}))
    (request,) = make_requests(1)
    paid = accept(bench, request)

    done = run_rescue(bench)

    assert (dict(done.states), done.complete) == ({State.EXPIRED: 1}, False)
    assert done.notices[0].startswith(f"paid and lost: prediction {paid.id}")


def test_images_without_lineage_rows_get_them(bench: Bench) -> None:
    bench.run(make_requests(3))
    before = sorted(rows(bench), key=lambda row: row.request_sha256)
    for key in keys(bench, "lineage/"):
        (bench.folder / "store" / key).unlink()
    change_ledger(bench, "UPDATE flux_attempts SET recorded = 0")

    done = run_rescue(bench)

    assert dict(done.states) == {State.STORED: 3}
    assert sorted(rows(bench), key=lambda row: row.request_sha256) == before
    assert bench.ledger.unfinished() == []


def test_one_request_that_can_not_be_read_does_not_keep_the_others(bench: Bench) -> None:
    broken, whole = make_requests(2)
    for request in (broken, whole):
        accept(bench, request)
    sha = broken.request_sha256
    change_ledger(
        bench, f"UPDATE flux_attempts SET request_json = '' WHERE request_sha256 = '{sha}'"
    )

    done = run_rescue(bench)

    assert (list(done.unreadable), done.complete) == ([sha], False)
    assert dict(done.states) == {State.STORED: 1}
    assert [each.request_sha256 for each in bench.ledger.unfinished()] == [sha]


def test_a_failing_store_leaves_everything_for_the_next_rescue(bench: Bench) -> None:
    for request in make_requests(2):
        accept(bench, request)
    blocked = bench.folder / "store" / "images"
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("a file where the folder should be")

    first = run_rescue(bench)
    assert not first.complete

    blocked.unlink()
    bench.reopen()
    assert dict(run_rescue(bench).states) == {State.STORED: 2}
    assert bench.created == 2


def test_a_rescue_of_two_prompt_sets_keeps_them_apart(bench: Bench) -> None:
    for steps, name in enumerate(("one", "two"), 1):
        (request,) = make_requests(1, prompt_set=name, num_inference_steps=steps)
        accept(bench, request)

    assert dict(run_rescue(bench).states) == {State.STORED: 2}
    names = [key.rpartition("/")[2] for key in keys(bench, "lineage/")]
    assert [name[:10] for name in names] == ["one-images", "two-images"]


@dataclass(frozen=True)
class Origin:
    """All that a bench in another process needs to know of the server."""

    origin: str


def make_images(folder: Path, origin: str, count: int) -> None:
    with open_ledger(f"sqlite:///{folder}/ledger.db", lease_seconds=POLICY.lease) as ledger:
        store = open_store(f"file:{folder}/store")
        Bench(Origin(origin), ledger, store, folder).run(make_requests(count))  # type: ignore[arg-type]


def wait_for_quiet(bench: Bench) -> int:
    """What the provider accepted, once all that a dead client had sent was read and answered."""
    httpx.get(f"{bench.server.origin}/v1/predictions", trust_env=False)
    patience = time.monotonic() + 60  # the worker may have died within its request
    while bench.received > bench.created and time.monotonic() < patience:
        time.sleep(0.01)
    return bench.created


@pytest.mark.parametrize("moment", [1, 8, 20])
def test_a_killed_worker_loses_nothing_and_pays_for_nothing_twice(
    open_bench: Open, moment: int
) -> None:
    bench = open_bench(None, SLOW)
    requests = make_requests(30)
    arguments = (bench.folder, bench.server.origin, len(requests))
    worker = context().Process(target=make_images, args=arguments, daemon=True)
    worker.start()
    patience = time.monotonic() + 600
    while bench.created < moment and time.monotonic() < patience:
        time.sleep(0.01)
    worker.kill()
    worker.join()
    paid = wait_for_quiet(bench)
    assert paid >= moment

    done = run_rescue(bench)

    assert done.complete
    assert bench.created == paid
    assert len(keys(bench, "images/")) == paid
    assert verify(bench.producer, deep=True).ok
    tally = bench.run(requests)
    assert (tally.unchanged, tally.stored, bench.created) == (paid, 30 - paid, 30)
