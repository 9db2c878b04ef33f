"""Provider, ledger, store and lineage held against each other, each broken in its own way."""

import io
import shlex
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from flux_pipeline.audit.findings import Kind, Verification
from flux_pipeline.audit.held import adopt as adopt_by_hand
from flux_pipeline.audit.verify import adopt_command, check_unknown, verify
from flux_pipeline.cli.held import adopt
from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.ledger.base import Attempt, State
from flux_pipeline.lineage.record import ImageStatus, records_from_json, records_to_json
from flux_pipeline.provider.client import Provider
from flux_pipeline.provider.config import ProviderConfig
from flux_pipeline.store.open import open_store
from tests.audit.attempts import FAILED, SHA, attempt, unpaid
from tests.audit.unfinished import accept, create, intend
from tests.produce.pipeline import POLICY, QUICK, Pipeline, change_ledger, keys, make_requests
from tests.produce.test_pictures import LARGE, draw, upscale

Open = Callable[..., Pipeline]
NO_LIST = QUICK.model_copy(update={"list_enabled": False})
LOST_REPLIES = FaultPlan(create={"reset_after": 1.0}, cap=1)


def found(result: Verification) -> dict[Kind, list[str]]:
    """The ids by kind, of kinds that were found at all."""
    return {kind: ids for kind in Kind if (ids := result.ids(kind))}


def path_of(pipeline: Pipeline, key: str) -> Path:
    return pipeline.folder / "store" / key


def picture() -> bytes:
    """A picture that nobody asked for."""
    body = io.BytesIO()
    Image.new("RGB", (64, 64)).save(body, "JPEG")
    return body.getvalue()


@pytest.mark.parametrize("deep", [False, True])
def test_all_agree_after_a_run(pipeline: Pipeline, deep: bool) -> None:
    pipeline.run(make_requests(5))
    before = keys(pipeline, "")

    result = verify(pipeline.producer, deep=deep)

    assert (result.ok, result.images, result.findings, result.notes) == (True, 5, [], [])
    assert keys(pipeline, "") == before


def test_what_is_paid_and_not_stored_yet_is_said(pipeline: Pipeline) -> None:
    accept(pipeline, make_requests(1)[0])

    result = verify(pipeline.producer)

    assert (result.ok, result.findings) == (True, [])
    assert [note.partition(":")[0] for note in result.notes] == ["1 paid and not stored yet"]


def test_nothing_made_is_nothing_wrong(pipeline: Pipeline) -> None:
    assert verify(pipeline.producer, deep=True).ok


def test_images_that_the_provider_refused_are_no_finding(open_pipeline: Open) -> None:
    pipeline = open_pipeline(FaultPlan(outcome={"images_refused": 1.0}))
    pipeline.run(make_requests(2, num_outputs=4))

    assert verify(pipeline.producer, deep=True).ok


def test_a_stored_image_that_is_gone_is_lost(pipeline: Pipeline) -> None:
    pipeline.run(make_requests(3))
    gone = keys(pipeline, "images/")[1]
    path_of(pipeline, gone).unlink()

    result = verify(pipeline.producer)

    assert found(result) == {Kind.LOST: [gone]}
    assert "ledger and lineage say that" in result.findings[0].message
    assert (result.ok, result.images) == (False, 2)


@pytest.mark.parametrize(("spared", "who"), [("lineage", "the lineage"), ("ledger", "the ledger")])
def test_one_that_remembers_is_enough_to_know_what_is_lost(
    pipeline: Pipeline, spared: str, who: str
) -> None:
    pipeline.run(make_requests(1))
    (gone,) = keys(pipeline, "images/")
    path_of(pipeline, gone).unlink()
    if spared == "lineage":
        change_ledger(pipeline, "DELETE FROM flux_attempts")
    else:
        shutil.rmtree(path_of(pipeline, "lineage"))

    result = verify(pipeline.producer)

    assert found(result) == {Kind.LOST: [gone]}
    assert result.findings[0].message.startswith(f"{who} says that it is stored")


def test_what_was_paid_and_expired_is_lost(open_pipeline: Open) -> None:
    pipeline = open_pipeline(FaultPlan(download={"expired": 1.0}))
    pipeline.run(make_requests(2))

    result = verify(pipeline.producer)

    paid = {each.id for each in pipeline.server.usage().predictions}
    assert set(found(result)) == {Kind.LOST}
    assert set(result.ids(Kind.LOST)) == paid


def test_a_paid_output_that_our_settings_refuse_is_under_way_and_no_finding(
    open_pipeline: Open,
) -> None:
    """It stays open by its id, and is fetched when the setting is right."""
    pipeline = open_pipeline(FaultPlan(download={"redirect_private": 1.0}, cap=100))
    pipeline.run(make_requests(1))

    assert verify(pipeline.producer).ok
    assert [each.state for each in pipeline.ledger.unfinished()] == [State.SUCCEEDED]


def test_an_image_that_an_earlier_version_gave_up_is_lost(pipeline: Pipeline) -> None:
    """Versions before 0.2 closed a request with the images that could be stored."""
    pipeline.run(make_requests(1, num_outputs=2))
    (paid,) = pipeline.server.usage().predictions
    attempt = next(pipeline.ledger.attempts())
    first, second = records_from_json(attempt.images)
    failed = replace(second, status=ImageStatus.FAILED, error="paid, not stored: refused")
    images = records_to_json([first, failed]).replace("'", "''")
    change_ledger(pipeline, f"UPDATE flux_attempts SET images = '{images}'")

    result = verify(pipeline.producer)

    assert result.ids(Kind.LOST) == [paid.id]
    assert "paid, not stored" in result.findings[0].message


@pytest.mark.parametrize(
    ("lost", "what"),
    [
        ("lineage", "its lineage row is gone; `flux-pipeline reindex`"),
        ("ledger", "the ledger doesn't know it; `flux-pipeline reindex`"),
        ("both", "neither ledger nor lineage knows it; `flux-pipeline reindex`"),
        ("unrecorded", "it has no lineage row yet; a run under way"),
    ],
)
def test_an_image_that_a_side_does_not_know_is_orphaned(
    pipeline: Pipeline, lost: str, what: str
) -> None:
    pipeline.run(make_requests(2))
    if lost in {"lineage", "both", "unrecorded"}:
        shutil.rmtree(path_of(pipeline, "lineage"))
    if lost in {"ledger", "both"}:
        change_ledger(pipeline, "DELETE FROM flux_attempts")
    if lost == "unrecorded":
        change_ledger(pipeline, "UPDATE flux_attempts SET recorded = 0")

    result = verify(pipeline.producer)

    assert found(result) == {Kind.ORPHANED: keys(pipeline, "images/")}
    assert all(each.message.startswith(what) for each in result.findings)


def test_a_file_that_somebody_put_there_is_orphaned(pipeline: Pipeline) -> None:
    pipeline.run(make_requests(1))
    pipeline.store.put_new("images/set/holiday.png", b"x", content_type="image/png", metadata={})

    result = verify(pipeline.producer, deep=True)

    assert found(result) == {
        Kind.ORPHANED: ["images/set/holiday.png"],
        Kind.UNREADABLE: ["images/set/holiday.png"],
    }


def test_what_is_under_way_is_no_finding(pipeline: Pipeline) -> None:
    accepted, intended = make_requests(2)
    accept(pipeline, accepted)
    create(pipeline, intended)
    intend(pipeline, intended)

    assert verify(pipeline.producer).ok


def test_an_image_of_an_attempt_that_is_not_over_is_not_orphaned(pipeline: Pipeline) -> None:
    pipeline.run(make_requests(2, num_outputs=2))
    shutil.rmtree(path_of(pipeline, "lineage"))
    change_ledger(pipeline, "UPDATE flux_attempts SET state = 'succeeded', images = '[]'")

    assert verify(pipeline.producer, deep=True).ok


def test_a_store_that_was_moved_still_agrees(pipeline: Pipeline) -> None:
    pipeline.run(make_requests(3))
    shutil.move(pipeline.folder / "store", pipeline.folder / "elsewhere")
    pipeline.store = open_store(f"file:{pipeline.folder}/elsewhere")

    assert verify(pipeline.producer, deep=True).ok


def test_a_request_sent_again_without_an_answer_was_possibly_paid_twice(
    open_pipeline: Open,
) -> None:
    pipeline = open_pipeline(LOST_REPLIES, NO_LIST)
    (request,) = make_requests(1)
    pipeline.run([request])

    result = verify(pipeline.producer)

    assert found(result) == {Kind.PAID_TWICE: [request.request_sha256]}
    assert result.findings[0].message.startswith("possibly")
    assert any("no list" in note for note in result.notes)


def test_a_held_request_is_held(open_pipeline: Open) -> None:
    pipeline = open_pipeline(LOST_REPLIES, NO_LIST, policy=replace(POLICY, unknown="hold"))
    requests = make_requests(2)
    pipeline.run(requests)

    result = verify(pipeline.producer)

    assert set(found(result)) == {Kind.HELD}
    assert set(result.ids(Kind.HELD)) == {each.request_sha256 for each in requests}


def test_the_list_names_the_prediction_of_a_held_request(open_pipeline: Open) -> None:
    pipeline = open_pipeline(LOST_REPLIES, has_list=False, policy=replace(POLICY, unknown="hold"))
    (request,) = make_requests(1)
    pipeline.run([request])
    pipeline.has_list = True
    (paid,) = pipeline.server.usage().predictions

    result = verify(pipeline.producer)

    assert found(result) == {Kind.HELD: [request.request_sha256]}
    advice = f"`flux-pipeline held adopt {request.request_sha256} {paid.id}`"
    assert any(advice in each.message for each in result.findings)


def test_a_lost_create_with_a_picture_and_no_seed_is_known_by_its_prediction(
    open_pipeline: Open,
) -> None:
    pipeline = open_pipeline(LOST_REPLIES, has_list=False, policy=replace(POLICY, unknown="hold"))
    request = upscale(draw(pipeline.folder / "castle.png", at_least=LARGE))
    pipeline.run([request])
    pipeline.has_list = True
    (paid,) = pipeline.server.usage().predictions

    result = verify(pipeline.producer)
    assert found(result) == {Kind.HELD: [request.request_sha256]}
    assert any(f"shows prediction {paid.id}" in each.message for each in result.findings)
    # The worker that held it is this process, which would be waited for like any that lives.
    change_ledger(pipeline, "UPDATE flux_attempts SET lease_seconds = 0")
    adopt_by_hand(pipeline.producer, request.request_sha256, paid.id, run_id="adopt-1")
    assert verify(pipeline.producer, deep=True).ok


def test_a_second_prediction_of_a_request_in_the_list_was_paid_twice(pipeline: Pipeline) -> None:
    requests = make_requests(3)
    pipeline.run(requests)
    second = create(pipeline, requests[1])

    result = verify(pipeline.producer)

    assert found(result) == {Kind.PAID_TWICE: [second.id]}


def test_a_prediction_that_the_ledger_gave_up_is_lost(pipeline: Pipeline) -> None:
    (request,) = make_requests(1)
    pipeline.run([request])
    (paid,) = pipeline.server.usage().predictions
    change_ledger(
        pipeline,
        "UPDATE flux_attempts SET state = 'unsent', prediction_id = NULL, acceptance = NULL,"
        " images = '[]'",
    )

    result = verify(pipeline.producer)

    assert result.ids(Kind.LOST) == [*keys(pipeline, "images/"), paid.id][1:]
    assert any("says that its request never was" in each.message for each in result.findings)


def test_a_duplicate_that_the_ledger_knows_was_paid_twice(pipeline: Pipeline) -> None:
    requests = make_requests(2)
    pipeline.run(requests)
    attempt = pipeline.ledger.find([requests[0].request_sha256])[requests[0].request_sha256]
    state = pipeline.ledger.accept(attempt, prediction_id="another", reply="{}")

    assert state is State.DUPLICATE
    assert found(verify(pipeline.producer)) == {Kind.PAID_TWICE: ["another"]}


def test_predictions_of_others_are_noted_and_nothing_else(pipeline: Pipeline) -> None:
    pipeline.run(make_requests(1))
    for stranger in make_requests(3, num_inference_steps=2)[1:]:
        create(pipeline, stranger)

    result = verify(pipeline.producer)

    assert result.ok
    (note,) = result.notes
    assert note.startswith("2 predictions in the provider's list are of no request in this ledger")


def test_failed_predictions_of_a_request_were_not_paid(open_pipeline: Open) -> None:
    pipeline = open_pipeline(FaultPlan(outcome={"failed_e9828": 1.0}, cap=1))

    assert pipeline.run(make_requests(3)).stored == 3
    assert pipeline.created == 6
    assert verify(pipeline.producer).ok


def test_the_whole_list_is_read_page_by_page(open_pipeline: Open) -> None:
    pipeline = open_pipeline(None, QUICK.model_copy(update={"page_size": 3}))
    requests = make_requests(10)
    pipeline.run(requests)
    second = create(pipeline, requests[0])
    for stranger in make_requests(7, num_inference_steps=2):
        create(pipeline, stranger)

    assert found(verify(pipeline.producer)) == {Kind.PAID_TWICE: [second.id]}


def test_the_list_is_read_back_for_an_hour_and_no_further(open_pipeline: Open) -> None:
    pipeline = open_pipeline(None, QUICK.model_copy(update={"page_size": 1}))
    pipeline.run(make_requests(3))
    routes = pipeline.server.usage().requests_by_route
    before = routes.get("GET /v1/predictions", 0)

    later = verify(pipeline.producer, now=lambda: time.time() + 7200)

    assert later.ok
    assert pipeline.server.usage().requests_by_route["GET /v1/predictions"] - before == 1


@pytest.mark.parametrize("fault", ["server_error", "unauthorized", "reset"])
def test_without_the_list_nothing_agrees_for_sure(open_pipeline: Open, fault: str) -> None:
    pipeline = open_pipeline(FaultPlan.model_validate({"list": {fault: 1.0}, "cap": 100}))
    pipeline.run(make_requests(1))
    config = ProviderConfig(base_url=pipeline.server.origin, api_key="key", page_tries=1)

    result = verify(replace(pipeline.producer, open_provider=lambda: Provider(config)))

    assert (result.ok, result.complete, result.findings) == (False, False, [])
    assert result.notes[0].startswith("the provider's list could not be read: ")


def test_another_picture_under_the_key_has_the_wrong_hash(pipeline: Pipeline) -> None:
    pipeline.run(make_requests(2))
    path_of(pipeline, keys(pipeline, "images/")[0]).write_bytes(picture())

    assert verify(pipeline.producer).ok
    result = verify(pipeline.producer, deep=True)

    (key, _) = keys(pipeline, "images/")
    assert found(result) == {Kind.WRONG_HASH: [key]}
    assert "other bytes than the ledger says" in result.findings[0].message
    assert "other pixels than the lineage says" in result.findings[0].message


def test_an_edited_label_is_told_from_edited_pixels(pipeline: Pipeline) -> None:
    pipeline.run(make_requests(1))
    (key,) = keys(pipeline, "images/")
    body = path_of(pipeline, key).read_bytes()
    path_of(pipeline, key).write_bytes(body.replace(b"prompt 0", b"prompt 9"))

    (finding,) = verify(pipeline.producer, deep=True).findings

    assert finding.kind is Kind.WRONG_HASH
    assert "bytes" in finding.message
    assert "pixels" not in finding.message


def test_a_cut_picture_is_unreadable(pipeline: Pipeline) -> None:
    pipeline.run(make_requests(2))
    key = keys(pipeline, "images/")[0]
    body = path_of(pipeline, key).read_bytes()
    path_of(pipeline, key).write_bytes(body[: len(body) // 2])

    result = verify(pipeline.producer, deep=True)

    assert found(result) == {Kind.UNREADABLE: [key], Kind.WRONG_HASH: [key]}


def test_an_orphan_is_held_against_its_own_metadata(pipeline: Pipeline) -> None:
    pipeline.run(make_requests(1))
    (key,) = keys(pipeline, "images/")
    stored = pipeline.store.head(key)
    assert stored is not None
    metadata = dict(stored.metadata)
    pipeline.store.put_new(
        "images/set/other.jpg", picture(), content_type="image/jpeg", metadata=metadata
    )

    result = verify(pipeline.producer, deep=True)

    assert result.ids(Kind.WRONG_HASH) == ["images/set/other.jpg"]


def test_ledger_and_lineage_that_contradict_each_other_need_no_reading(pipeline: Pipeline) -> None:
    pipeline.run(make_requests(2))
    change_ledger(
        pipeline,
        'UPDATE flux_attempts SET images = replace(images, \'"file_sha256":"\', '
        '\'"file_sha256":"0\')',
    )

    assert found(verify(pipeline.producer)) == {Kind.WRONG_HASH: keys(pipeline, "images/")}


def test_a_broken_lineage_part_is_named_and_the_others_are_read(pipeline: Pipeline) -> None:
    for request in make_requests(2):  # partitions of one run may share a part
        pipeline.run([request])
    broken, whole = keys(pipeline, "lineage/")
    path_of(pipeline, broken).write_bytes(b"no parquet")

    result = verify(pipeline.producer)

    assert whole
    assert result.ids(Kind.UNREADABLE) == [broken]
    assert len(result.ids(Kind.ORPHANED)) == 1


def test_records_that_can_not_be_read_are_named(pipeline: Pipeline) -> None:
    requests = make_requests(1)
    pipeline.run(requests)
    change_ledger(pipeline, "UPDATE flux_attempts SET images = 'nonsense'")

    assert verify(pipeline.producer).ids(Kind.UNREADABLE) == [requests[0].request_sha256]


def test_progress_counts_every_object(pipeline: Pipeline) -> None:
    pipeline.run(make_requests(4))
    seen: list[tuple[int, int]] = []

    verify(pipeline.producer, deep=True, progress=lambda done, total: seen.append((done, total)))

    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([unpaid(State.INTENT)], None),
        ([attempt(State.FAILED), unpaid(State.INTENT, 2)], None),
        ([unpaid(State.HELD)], (Kind.HELD, SHA)),
        ([unpaid(State.UNSENT)], (Kind.LOST, "new")),
        ([unpaid(State.REFUSED)], (Kind.LOST, "new")),
        ([attempt(State.FAILED, reply=FAILED)], (Kind.LOST, "new")),
        ([unpaid(State.RESENT)], (Kind.PAID_TWICE, "new")),
        ([attempt(State.STORED)], (Kind.PAID_TWICE, "new")),
        ([attempt(State.ACCEPTED)], (Kind.PAID_TWICE, "new")),
        ([attempt(State.EXPIRED)], (Kind.PAID_TWICE, "new")),
        ([unpaid(State.UNSENT), attempt(State.STORED, 2)], (Kind.PAID_TWICE, "new")),
    ],
)
def test_a_prediction_that_only_the_list_knows_is_judged_by_its_request(
    history: list[Attempt], expected: tuple[Kind, str] | None
) -> None:
    finding = check_unknown("new", history)

    assert (None if finding is None else (finding.kind, finding.id)) == expected


@pytest.mark.parametrize(
    ("prediction_id", "written"),
    [("new", "new"), ("7f3a:owner/name", "7f3a:owner/name"), ("-new", "-- SHA -new")],
)
def test_the_advice_to_adopt_is_a_command_as_it_can_be_pasted(
    prediction_id: str, written: str
) -> None:
    command = adopt_command(SHA, prediction_id)
    expected = written.replace("SHA", SHA) if "SHA" in written else f"{SHA} {written}"
    assert command == f"flux-pipeline held adopt {expected}"
    with adopt.make_context("adopt", shlex.split(command)[3:]) as context:
        assert context.params["request"] == SHA
        assert context.params["prediction_id"] == prediction_id
