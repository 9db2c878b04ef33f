"""Ledger and lineage made again from the stored images, and what can't be."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from flux_pipeline.audit.findings import Kind
from flux_pipeline.audit.reindex import Reindexed, reindex
from flux_pipeline.audit.verify import verify
from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.images.labels import Label, label_image, read_label
from flux_pipeline.ledger.base import Attempt, State
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.lineage.query import find_exact, open_snapshot
from flux_pipeline.lineage.record import ImageRecord, ImageStatus, records_from_json
from flux_pipeline.produce.budgets import Limits
from flux_pipeline.produce.policy import RunContext
from flux_pipeline.produce.report import Tally
from flux_pipeline.store.open import open_store
from tests.audit.test_verify import path_of, picture
from tests.produce.pipeline import POLICY, Pipeline, change_ledger, keys, make_requests
from tests.servers.postgres import PostgresServer
from tests.servers.s3 import S3Server

Open = Callable[..., Pipeline]
LEFT_OUT = FaultPlan(outcome={"images_refused": 1.0})


def lose(pipeline: Pipeline, *what: str) -> None:
    if "lineage" in what:
        shutil.rmtree(path_of(pipeline, "lineage"))
    if "ledger" in what:
        change_ledger(pipeline, "DELETE FROM flux_attempts")
        change_ledger(pipeline, "DELETE FROM flux_budgets")


def rebuild(pipeline: Pipeline) -> Reindexed:
    return reindex(pipeline.store, pipeline.ledger)


def rows(pipeline: Pipeline) -> list[ImageRecord]:
    """The current rows of the test's prompt set, in a fixed order."""
    found = find_exact(open_snapshot(pipeline.store), "prompt_set", "set", limit=None)
    return sorted(found, key=lambda row: (row.request_sha256, row.output_index))


def known_from_the_file(row: ImageRecord) -> ImageRecord:
    return replace(row, stored_at=None, polls=0)


def attempts(pipeline: Pipeline) -> list[Attempt]:
    return list(pipeline.ledger.attempts())


def test_after_the_loss_of_both_everything_is_unchanged_and_agrees(pipeline: Pipeline) -> None:
    requests = make_requests(6)
    pipeline.run(requests)
    before = rows(pipeline)
    lose(pipeline, "lineage", "ledger")

    done = rebuild(pipeline)

    assert (done.images, done.rows, done.entries, done.failed) == (6, 6, 6, {})
    assert pipeline.run(requests) == Tally(asked=6, unchanged=6)
    assert pipeline.created == 6
    assert verify(pipeline.producer, deep=True).ok
    assert rows(pipeline) == [known_from_the_file(row) for row in before]


def test_a_second_time_it_finds_nothing_to_do(pipeline: Pipeline) -> None:
    pipeline.run(make_requests(5))
    lose(pipeline, "lineage", "ledger")
    rebuild(pipeline)
    before, entries = keys(pipeline, ""), attempts(pipeline)

    assert rebuild(pipeline) == Reindexed(images=5)
    assert keys(pipeline, "") == before
    assert attempts(pipeline) == entries


def test_nothing_to_do_after_a_run(pipeline: Pipeline) -> None:
    pipeline.run(make_requests(5))
    before, entries = keys(pipeline, ""), attempts(pipeline)

    assert rebuild(pipeline) == Reindexed(images=5)
    assert (keys(pipeline, ""), attempts(pipeline)) == (before, entries)


def test_the_ledger_alone_gives_every_row_back_exactly(open_pipeline: Open) -> None:
    pipeline = open_pipeline(LEFT_OUT)
    pipeline.run(make_requests(4, num_outputs=4))
    before = rows(pipeline)
    lose(pipeline, "lineage")

    done = rebuild(pipeline)

    assert (done.rows, done.entries) == (16, 0)
    assert {row.status for row in before} == {ImageStatus.STORED, ImageStatus.REFUSED}
    assert rows(pipeline) == before


def test_rows_of_requests_without_any_image_come_back_too(open_pipeline: Open) -> None:
    pipeline = open_pipeline(FaultPlan(outcome={"failed_nsfw": 1.0}))
    pipeline.run(make_requests(2))
    before = rows(pipeline)
    lose(pipeline, "lineage")

    assert rebuild(pipeline).rows == 2
    assert rows(pipeline) == before


def test_an_unrecorded_image_gets_its_row_from_the_ledger(pipeline: Pipeline) -> None:
    pipeline.run(make_requests(2))
    before = rows(pipeline)
    lose(pipeline, "lineage")
    change_ledger(pipeline, "UPDATE flux_attempts SET recorded = 0")

    assert rebuild(pipeline).rows == 2
    assert rows(pipeline) == before
    assert pipeline.ledger.unfinished() == []


def test_with_the_lineage_alone_only_entries_are_made(pipeline: Pipeline) -> None:
    requests = make_requests(3)
    pipeline.run(requests)
    before = keys(pipeline, "")
    lose(pipeline, "ledger")

    done = rebuild(pipeline)

    assert (done.rows, done.entries) == (0, 3)
    assert keys(pipeline, "") == before
    assert pipeline.run(requests) == Tally(asked=3, unchanged=3)
    assert verify(pipeline.producer).ok


def test_a_row_that_says_failed_does_not_stand_for_the_image_that_came_later(
    pipeline: Pipeline,
) -> None:
    requests = make_requests(1)
    pipeline.run(requests, limits=Limits(usd_per_run=0.0))
    failed = keys(pipeline, "lineage/")
    pipeline.run(requests)
    for key in set(keys(pipeline, "lineage/")) - set(failed):
        path_of(pipeline, key).unlink()

    assert rebuild(pipeline).rows == 1
    assert verify(pipeline.producer).ok


def test_images_left_out_are_named_again_and_not_paid_for(open_pipeline: Open) -> None:
    pipeline = open_pipeline(LEFT_OUT)
    requests = make_requests(3, num_outputs=4)
    first = pipeline.run(requests)
    paid = pipeline.created
    lose(pipeline, "lineage", "ledger")

    rebuild(pipeline)

    again = pipeline.run(requests)
    assert (again.unchanged, again.refused, again.failed) == (first.stored, first.refused, 0)
    assert (again.created, pipeline.created) == (0, paid)
    assert verify(pipeline.producer, deep=True).ok
    refused = [row for row in rows(pipeline) if row.status is ImageStatus.REFUSED]
    assert len(refused) == first.refused
    assert all("when the ledger was rebuilt" in (row.error or "") for row in refused)
    assert not any(row.uri or row.image_sha256 for row in refused)


def test_no_budget_is_charged_for_what_was_paid_before(pipeline: Pipeline) -> None:
    pipeline.run(make_requests(4))
    lose(pipeline, "lineage", "ledger")

    rebuild(pipeline)

    with pipeline.ledger.transaction() as calls:
        scopes = calls.connection.exec_driver_sql("SELECT scope FROM flux_budgets").all()
    assert scopes == []
    assert sum(each.intent.cost_micros for each in attempts(pipeline)) == 4 * 3000


@pytest.mark.parametrize(
    ("state", "with_id"),
    [
        (State.INTENT, False),
        (State.HELD, False),
        (State.UNSENT, False),
        (State.RESENT, False),
        (State.REFUSED, False),
        (State.REFUSED, True),
        (State.FAILED, False),
        (State.FAILED, True),
        (State.ACCEPTED, True),
        (State.SUCCEEDED, True),
        (State.EXPIRED, True),
    ],
)
def test_an_entry_that_the_store_proves_wrong_is_corrected(
    pipeline: Pipeline, state: State, with_id: bool
) -> None:
    """As an older copy of the ledger has it; what is open there has lost its worker."""
    requests = make_requests(1)
    pipeline.run(requests)
    no_id = "" if with_id else ", prediction_id = NULL, acceptance = NULL"
    change_ledger(pipeline, f"UPDATE flux_attempts SET state = '{state}', images = '[]'{no_id}")
    pipeline.reopen()

    done = rebuild(pipeline)

    assert (done.rows, done.entries, done.failed) == (0, 1, {})
    assert attempts(pipeline)[-1].state is State.STORED
    assert pipeline.ledger.unfinished() == []
    assert pipeline.run(requests) == Tally(asked=1, unchanged=1)
    assert pipeline.created == 1
    assert rebuild(pipeline) == Reindexed(images=1)


@pytest.mark.parametrize("state", [State.FAILED, State.REFUSED, State.EXPIRED])
def test_an_image_of_a_later_attempt_follows_the_one_that_the_ledger_knows(
    pipeline: Pipeline, state: State
) -> None:
    """The first prediction failed, and the one that made the image is not in the old ledger."""
    requests = make_requests(1)
    pipeline.run(requests)
    change_ledger(
        pipeline,
        f"UPDATE flux_attempts SET state = '{state}', images = '[]', prediction_id = 'first',"
        " acceptance = 'first'",
    )

    done = rebuild(pipeline)

    assert (done.entries, done.failed) == (1, {})
    first, second = attempts(pipeline)
    assert (first.prediction_id, second.state) == ("first", State.STORED)
    assert pipeline.run(requests) == Tally(asked=1, unchanged=1)


def test_what_is_under_way_and_half_stored_gets_its_id_and_is_finished_by_it(
    pipeline: Pipeline,
) -> None:
    requests = make_requests(1, num_outputs=2)
    pipeline.run(requests)
    lose(pipeline, "lineage")
    path_of(pipeline, keys(pipeline, "images/")[1]).unlink()
    change_ledger(
        pipeline,
        "UPDATE flux_attempts SET state = 'intent', images = '[]', prediction_id = NULL,"
        " acceptance = NULL",
    )
    pipeline.reopen()

    assert rebuild(pipeline) == Reindexed(images=1)

    assert attempts(pipeline)[0].state is State.ACCEPTED
    pipeline.reopen()
    assert pipeline.run(requests).stored == 2
    assert pipeline.created == 1


def test_an_image_that_a_stored_request_does_not_name_is_said(pipeline: Pipeline) -> None:
    pipeline.run(make_requests(1))
    change_ledger(pipeline, "UPDATE flux_attempts SET images = '[]'")
    before = attempts(pipeline)
    (key,) = keys(pipeline, "images/")

    done = rebuild(pipeline)

    assert (list(done.failed), done.entries) == ([key], 0)
    assert "as stored without it: see `flux-pipeline verify`" in done.failed[key]
    assert attempts(pipeline) == before


def test_what_a_run_is_at_work_on_is_left_to_it(pipeline: Pipeline) -> None:
    pipeline.run(make_requests(2))
    lose(pipeline, "lineage")
    change_ledger(pipeline, "UPDATE flux_attempts SET state = 'succeeded', images = '[]'")
    before = attempts(pipeline)

    assert rebuild(pipeline) == Reindexed(images=2)
    assert attempts(pipeline) == before


def test_the_entry_is_as_a_run_would_have_written_it(pipeline: Pipeline) -> None:
    pipeline.run(make_requests(1))
    (before,) = attempts(pipeline)
    lose(pipeline, "ledger")

    rebuild(pipeline)

    (entry,) = attempts(pipeline)
    assert (entry.state, entry.recorded, entry.number) == (State.STORED, True, 1)
    assert entry.prediction_id == before.prediction_id
    assert entry.resolution == "rebuilt from the stored objects"
    assert replace(entry.intent, request_json="") == replace(before.intent, request_json="")
    records = [known_from_the_file(row) for row in records_from_json(before.images)]
    assert records_from_json(entry.images) == records


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda _: picture(), "it has no label of this pipeline"),
        (lambda body: body[: len(body) // 2], "jpg is cut"),
        (lambda _: b"", "empty"),
        (lambda body: label_image(picture(), must_read(body)), "its pixels are not those"),
        (
            lambda body: label_image(body, replace(must_read(body), prompt_name="other")),
            "it belongs under images/set/other-",
        ),
        (
            lambda body: label_image(body, replace(must_read(body), extra={"take": "one"})),
            "its label is incomplete or was edited",
        ),
        (
            lambda body: label_image(body, replace(must_read(body), input="[1]")),
            "its label is incomplete or was edited",
        ),
    ],
)
def test_what_can_not_be_rebuilt_is_named_with_the_reason(
    pipeline: Pipeline, spoil: Callable[[bytes], bytes], reason: str
) -> None:
    pipeline.run(make_requests(3))
    bad, *good = keys(pipeline, "images/")
    body = path_of(pipeline, bad).read_bytes()
    lose(pipeline, "lineage", "ledger")
    path_of(pipeline, bad).write_bytes(spoil(body))

    done = rebuild(pipeline)

    assert list(done.failed) == [bad]
    assert reason in done.failed[bad]
    assert (done.rows, done.entries) == (len(good), len(good))


def must_read(body: bytes) -> Label:
    label = read_label(body)
    assert label is not None
    return label


def test_a_copied_image_is_not_taken_for_another_one(pipeline: Pipeline) -> None:
    pipeline.run(make_requests(1))
    (key,) = keys(pipeline, "images/")
    lose(pipeline, "lineage", "ledger")
    copy = key.replace("prompt-0", "copied")
    shutil.copy(path_of(pipeline, key), path_of(pipeline, copy))

    done = rebuild(pipeline)

    assert list(done.failed) == [copy]
    assert f"it belongs under {key}" in done.failed[copy]
    assert done.entries == 1


def test_a_broken_image_beside_a_good_one_is_named_as_failed(pipeline: Pipeline) -> None:
    requests = make_requests(1, num_outputs=3)
    pipeline.run(requests)
    broken = keys(pipeline, "images/")[0]
    lose(pipeline, "lineage", "ledger")
    path_of(pipeline, broken).write_bytes(b"no image")

    done = rebuild(pipeline)

    assert list(done.failed) == [broken]
    statuses = [row.status for row in rows(pipeline)]
    assert statuses == [ImageStatus.FAILED, ImageStatus.STORED, ImageStatus.STORED]
    tally = pipeline.run(requests)
    assert (tally.unchanged, tally.failed, tally.created) == (2, 1, 0)


def test_prompts_kept_out_of_files_are_the_one_thing_that_is_lost(pipeline: Pipeline) -> None:
    requests = make_requests(2)
    quiet = replace(pipeline.producer, embed_prompt=False)
    with quiet.stream([("p", requests)], run=RunContext("run", "set/images")) as reports:
        assert len(list(reports)) == 1
    before = rows(pipeline)
    lose(pipeline, "lineage", "ledger")

    assert rebuild(pipeline).entries == 2

    assert [row.prompt for row in rows(pipeline)] == ["", ""]
    blind = [replace(known_from_the_file(row), prompt="", input="") for row in before]
    assert [replace(row, input="") for row in rows(pipeline)] == blind
    assert pipeline.run(requests) == Tally(asked=2, unchanged=2)


def test_a_broken_lineage_part_is_named_and_its_rows_are_written_again(pipeline: Pipeline) -> None:
    pipeline.run(make_requests(3))
    (part,) = keys(pipeline, "lineage/")
    path_of(pipeline, part).write_bytes(b"no parquet")

    done = rebuild(pipeline)

    assert (list(done.failed), done.rows) == ([part], 3)
    path_of(pipeline, part).unlink()
    assert verify(pipeline.producer).ok


def test_several_prompt_sets_get_parts_of_their_own(pipeline: Pipeline) -> None:
    for steps, name in enumerate(("one", "two"), 1):
        requests = make_requests(2, prompt_set=name, num_inference_steps=steps)
        run = RunContext(f"run-{name}", f"{name}/images")
        with pipeline.producer.stream([("p", requests)], run=run) as reports:
            assert len(list(reports)) == 1
    lose(pipeline, "lineage", "ledger")

    rebuild(pipeline)

    assert verify(pipeline.producer).ok
    names = [key.rpartition("/")[2] for key in keys(pipeline, "lineage/")]
    assert [name.split("-")[0] for name in names] == ["one", "two"]


def test_with_buckets_and_a_database_server(
    pipeline: Pipeline,
    monkeypatch: pytest.MonkeyPatch,
    postgres: PostgresServer,
    s3_server: S3Server,
) -> None:
    requests = make_requests(4, num_outputs=2)
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    pipeline.store = store = open_store(f"s3://{s3_server.new_bucket()}/first")
    with new_ledger(pipeline, postgres):
        pipeline.run(requests)
    # A bucket and a database that have nothing but the images.
    pipeline.store = open_store(f"s3://{s3_server.new_bucket()}/second")
    for key in store.list("images/"):
        head = store.head(key)
        assert head is not None
        metadata, kind = head.metadata, head.content_type
        pipeline.store.put_new(key, store.get(key), content_type=kind, metadata=metadata)
    with new_ledger(pipeline, postgres):
        done = rebuild(pipeline)

        assert (done.images, done.rows, done.entries, done.failed) == (8, 8, 4, {})
        assert pipeline.run(requests) == Tally(asked=8, unchanged=8)
        assert pipeline.created == 4
        assert verify(pipeline.producer, deep=True).ok
        assert rebuild(pipeline) == Reindexed(images=8)

        damaged = keys(pipeline, "images/")[0]
        pipeline.store.put(damaged, picture(), content_type="image/jpeg")
        assert verify(pipeline.producer, deep=True).ids(Kind.WRONG_HASH) == [damaged]


@contextmanager
def new_ledger(pipeline: Pipeline, server: PostgresServer) -> Iterator[None]:
    """An empty ledger in a database of its own."""
    pipeline.ledger.dispose()
    with open_ledger(server.create_database(), lease_seconds=POLICY.lease) as pipeline.ledger:
        yield
