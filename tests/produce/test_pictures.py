"""Pictures in: uploaded once each, inline or linked; what is wrong with one is found unpaid."""

import hashlib
import io
import json
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from PIL import Image

from flux_pipeline.emulator.faults import CreateFault, FaultPlan, UploadFault
from flux_pipeline.ledger.base import State
from flux_pipeline.ledger.uploads import SqlUploads, Upload
from flux_pipeline.models import build_request, find_model
from flux_pipeline.outcomes import Polled, Refused
from flux_pipeline.prediction import Prediction, Status
from flux_pipeline.produce.pictures import START_SECONDS, InputPreparer, SentInput, hide
from flux_pipeline.request import InputPicture, Request, Source
from tests.produce.pipeline import POLICY, QUICK, Pipeline, keys

UPSCALER = find_model("nightmareai/real-esrgan")
VARIABLE = "HF_TOKEN_OF_THE_TESTS"
CANARY = "canary-7f3a9c1b5d2e8f4a6b0c9d1e2f3a"
LARGE = 300_000
"""bytes; more than are sent inline."""


def draw(path: Path, colour: str = "navy", *, at_least: int = 0) -> InputPicture:
    """Write a PNG of at least so many bytes, and read it as a prompt set does."""
    body = io.BytesIO()
    Image.new("RGB", (24, 16), colour).save(body, "PNG")
    content = body.getvalue()
    if at_least > len(content):  # a text chunk of zeros, before the end
        content = _padded(content, at_least)
    path.write_bytes(content)
    return InputPicture(
        sha256=hashlib.sha256(content).hexdigest(),
        uri=str(path),
        bytes=len(content),
        content_type="image/png",
        width=24,
        height=16,
    )


def _padded(png: bytes, size: int) -> bytes:
    data = b"padding\0" + b"0" * size
    chunk = struct.pack(">I", len(data)) + b"tEXt" + data
    chunk += struct.pack(">I", zlib.crc32(b"tEXt" + data))
    return png[:-12] + chunk + png[-12:]


def upscale(picture: InputPicture, name: str = "print", take: int = 1, **more: object) -> Request:
    values = UPSCALER.validate({"image": picture.reference, "scale": 2, **more})
    return build_request(UPSCALER, values, Source("set", name, take), pictures=(picture,))


def made_from(pipeline: Pipeline) -> list[str]:
    """The checksums of what each prediction read, in order of acceptance."""
    return [p.sha256 for made in pipeline.server.usage().predictions for p in made.pictures]


def reasons(pipeline: Pipeline) -> list[str]:
    results = [result for report in pipeline.reports for result in report.results]
    return [result.reason for result in results if result.reason]


def uploads(pipeline: Pipeline) -> Mapping[str, int]:
    return pipeline.server.usage().uploads


@pytest.mark.parametrize("size", [0, LARGE])
def test_a_picture_is_made_from_the_bytes_of_the_file(pipeline: Pipeline, size: int) -> None:
    picture = draw(pipeline.folder / "castle.png", at_least=size)

    total = pipeline.run([upscale(picture)])

    assert total.stored == 1
    assert made_from(pipeline) == [picture.sha256]
    assert uploads(pipeline) == ({picture.sha256: 1} if size else {})
    (key,) = keys(pipeline, "images/")
    assert Image.open(io.BytesIO(pipeline.store.get(key))).size == (48, 32)


def test_requests_with_the_same_picture_upload_it_once(pipeline: Pipeline) -> None:
    picture = draw(pipeline.folder / "castle.png", at_least=LARGE)
    requests = [upscale(picture, f"print-{n}", scale=1 + n / 10) for n in range(12)]

    assert pipeline.run(requests[:8]).stored == 8
    assert pipeline.run(requests).stored == 4, "and another run uploads nothing"

    assert uploads(pipeline) == {picture.sha256: 1}


def test_an_upload_that_ends_soon_is_renewed(
    open_pipeline: Callable[..., Pipeline],
) -> None:
    options = QUICK.model_copy(update={"file_seconds": START_SECONDS / 2})
    pipeline = open_pipeline(options=options)
    picture = draw(pipeline.folder / "castle.png", at_least=LARGE)

    assert pipeline.run([upscale(picture, "first", scale=2)]).stored == 1
    assert pipeline.run([upscale(picture, "second", scale=3)]).stored == 1

    assert uploads(pipeline) == {picture.sha256: 2}


def test_lineage_records_what_went_in_and_the_file_does_not_say_where_it_lay(
    pipeline: Pipeline,
) -> None:
    picture = replace(draw(pipeline.folder / "castle.png"), request_sha256="2" * 64)
    pipeline.run([upscale(picture)])

    (record,) = pipeline.reports[0].records
    assert json.loads(record.input_images or "") == [
        {
            "name": "image",
            "sha256": picture.sha256,
            "uri": "castle.png",
            "request_sha256": "2" * 64,
        }
    ]
    (key,) = keys(pipeline, "images/")
    body = pipeline.store.get(key)
    assert picture.uri.encode() not in body
    assert picture.sha256.encode() in body


def test_neither_ledger_nor_lineage_hold_the_address_of_a_picture(pipeline: Pipeline) -> None:
    picture = draw(pipeline.folder / "castle.png", at_least=LARGE)
    pipeline.run([upscale(picture)])

    (attempt,) = pipeline.ledger.attempts()
    assert attempt.state is State.STORED
    assert picture.reference in attempt.intent.request_json
    for text in (attempt.intent.request_json, attempt.images):
        assert "/v1/files/" not in text


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda path: path.unlink(), "can't be read: No such file"),
        (lambda path: path.write_bytes(path.read_bytes() + b"0"), "has changed since it was read"),
        (lambda path: path.write_bytes(b"0"), "has changed since it was read"),
    ],
)
def test_a_file_that_is_not_as_it_was_read_is_never_sent(
    pipeline: Pipeline, spoil: Callable[[Path], object], why: str
) -> None:
    picture = draw(pipeline.folder / "castle.png")
    other = draw(pipeline.folder / "gate.png", "red")
    spoil(pipeline.folder / "castle.png")

    total = pipeline.run([upscale(picture), upscale(other, "gate")])

    assert (total.stored, total.failed, pipeline.received) == (1, 1, 1)
    assert any(why in reason for reason in reasons(pipeline)), reasons(pipeline)
    picture = draw(pipeline.folder / "castle.png")
    assert pipeline.run([upscale(picture)]).stored == 1, "and nothing of it is final"


def test_a_picture_that_is_not_made_yet_is_never_sent(pipeline: Pipeline) -> None:
    planned = InputPicture("1" * 64, "", 0, "", request_sha256="2" * 64)

    total = pipeline.run([upscale(planned)])

    assert (total.failed, pipeline.received) == (1, 0)
    assert reasons(pipeline) == ["not sent: its source 222222222222 is not made yet"]


def test_a_provider_without_files_takes_small_pictures_alone(
    open_pipeline: Callable[..., Pipeline],
) -> None:
    pipeline = open_pipeline(options=QUICK.model_copy(update={"files_enabled": False}))
    small = draw(pipeline.folder / "small.png")
    large = draw(pipeline.folder / "large.png", "red", at_least=LARGE)

    total = pipeline.run([upscale(small), upscale(large, "large")])

    assert (total.stored, total.failed, pipeline.received) == (1, 1, 1)
    assert any("too many to be sent within the input" in reason for reason in reasons(pipeline))


def test_a_picture_of_the_store_is_sent_by_its_bytes(pipeline: Pipeline) -> None:
    drawn = draw(pipeline.folder / "castle.png")
    body = (pipeline.folder / "castle.png").read_bytes()
    stored, _ = pipeline.store.put_new(
        "images/set/castle-0.png", body, content_type="image/png", metadata={}
    )
    for uri in (stored.uri, "s3://an-earlier-bucket/images/set/castle-0.png"):
        made = replace(drawn, uri=uri, request_sha256="1" * 64)
        pipeline.run([upscale(made, scale=2 if uri == stored.uri else 3)])

    assert made_from(pipeline) == [drawn.sha256, drawn.sha256]


def test_uploads_are_remembered_for_one_provider(pipeline: Pipeline) -> None:
    here, there = SqlUploads(pipeline.ledger, "here"), SqlUploads(pipeline.ledger, "there")
    first = Upload("1" * 64, "https://host/first", "f1", 100.0)
    later = Upload("1" * 64, "https://host/later", "f2", 200.0)
    for upload in (first, later, replace(first, expires_at=150.0)):
        here.add(upload)

    assert here.find("1" * 64) == later
    assert there.find("1" * 64) is None
    assert here.addresses(["1" * 64, "2" * 64]) == {"1" * 64: {first.url, later.url}}
    here.retire(["1" * 64])
    found = here.find("1" * 64)
    assert found is not None
    assert found.expires_at == 0.0
    assert here.addresses(["1" * 64]) == {"1" * 64: {first.url, later.url}}


def test_a_prediction_that_could_not_read_its_picture_gets_a_new_address(
    open_pipeline: Callable[..., Pipeline],
) -> None:
    """The address may end between the create and the start: the next run uploads it again."""
    options = QUICK.model_copy(update={"time_scale": 0.05})
    pipeline = open_pipeline(FaultPlan(input={"expired": 1.0}, cap=1), options)
    picture = draw(pipeline.folder / "castle.png", at_least=LARGE)

    assert pipeline.run([upscale(picture)]).failed == 1
    (attempt,) = pipeline.ledger.attempts()
    (attempt,) = pipeline.ledger.attempts()
    assert (attempt.state, attempt.retryable) == (State.FAILED, True), reasons(pipeline)
    assert pipeline.run([upscale(picture)]).stored == 1

    assert uploads(pipeline) == {picture.sha256: 2}


@pytest.mark.parametrize("fault", [each for each in get_args(UploadFault) if "hang" not in each])
def test_an_upload_that_fails_for_a_while_is_repeated_and_costs_nothing(
    open_pipeline: Callable[..., Pipeline], fault: UploadFault
) -> None:
    pipeline = open_pipeline(FaultPlan(upload={fault: 1.0}, cap=1))
    picture = draw(pipeline.folder / "castle.png", at_least=LARGE)

    first = pipeline.run([upscale(picture)])
    again = pipeline.run([upscale(picture)])

    assert first.stored + again.stored == 1
    assert pipeline.received == pipeline.created == 1
    assert first.stored == (fault not in {"unauthorized", "refused", "too_large"})


@pytest.mark.parametrize("size", [0, LARGE])
def test_a_lost_create_is_found_by_what_was_sent_in_place_of_the_picture(
    open_pipeline: Callable[..., Pipeline], size: int
) -> None:
    pipeline = open_pipeline(FaultPlan(create={"reset_after": 1.0}, cap=1), has_list=True)
    picture = draw(pipeline.folder / "castle.png", at_least=size)
    other = draw(pipeline.folder / "gate.png", "red", at_least=size)

    total = pipeline.run([upscale(picture), upscale(other, "gate")])

    assert (total.stored, pipeline.created) == (2, 2)
    assert sorted(made_from(pipeline)) == sorted([picture.sha256, other.sha256])


@pytest.mark.parametrize(("size", "beside"), [(0, 0), (0, LARGE), (LARGE, 0), (LARGE, LARGE)])
def test_the_pictures_of_other_requests_prove_that_a_create_never_arrived(
    open_pipeline: Callable[..., Pipeline], size: int, beside: int
) -> None:
    """A large picture is an address in the list, a small one its bytes: neither is the other."""
    never = FaultPlan(create={"reset_before": 1.0}, cap=1)
    pipeline = open_pipeline(never, has_list=True, policy=replace(POLICY, unknown="hold"))
    picture = draw(pipeline.folder / "castle.png", at_least=size)
    other = draw(pipeline.folder / "gate.png", "red", at_least=beside)

    assert pipeline.run([upscale(other, "gate")]).stored == 1
    assert pipeline.run([upscale(picture)]).stored == 1

    assert pipeline.created == 2


@pytest.mark.parametrize("fault", ["reset_after", "reset_before", "server_error_after"])
def test_takes_whose_creates_are_lost_are_each_paid_once(
    open_pipeline: Callable[..., Pipeline], fault: CreateFault
) -> None:
    """The model takes no seed: the list shows four predictions that are all alike."""
    pipeline = open_pipeline(FaultPlan(create={fault: 0.7}, seed=3, cap=1), has_list=True)
    picture = draw(pipeline.folder / "castle.png")
    takes = [upscale(picture, take=number) for number in range(1, 6)]

    total = pipeline.run(takes)

    assert (total.stored, pipeline.created) == (5, 5)
    held = [attempt.prediction_id for attempt in pipeline.ledger.in_state(State.STORED)]
    assert len(set(held)) == 5


def make_with_secret(pipeline: Pipeline) -> Request:
    model = find_model("black-forest-labs/flux-dev-lora")
    values = model.validate({"prompt": "a castle", "seed": 1, "hf_api_token": f"env:{VARIABLE}"})
    return build_request(model, values, Source("set", "castle"))


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_secret_is_put_in_when_the_input_is_made(pipeline: Pipeline) -> None:
    nothing: Any = None
    preparer = InputPreparer(
        nothing, nothing, pipeline.store, POLICY, read_secret={VARIABLE: CANARY}.get
    )

    sent = await preparer.prepare(make_with_secret(pipeline))

    assert isinstance(sent, SentInput)
    assert sent.values == {"prompt": "a castle", "seed": 1, "hf_api_token": CANARY}
    assert CANARY not in repr(sent)


def test_a_secret_is_kept_nowhere(pipeline: Pipeline) -> None:
    request = make_with_secret(pipeline)
    pipeline.read_secret = {VARIABLE: CANARY}.get

    assert pipeline.run([request]).stored == 1

    pipeline.reopen()
    for path in pipeline.folder.rglob("*"):
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes(), path


def test_a_secret_that_is_not_set_is_named_before_anything_is_sent(pipeline: Pipeline) -> None:
    assert pipeline.run([make_with_secret(pipeline)]).failed == 1

    assert pipeline.received == 0
    (reason,) = reasons(pipeline)
    assert reason.startswith(f"not sent: {VARIABLE} is not set")


def test_a_prompt_that_looks_like_a_secrets_name_is_only_a_prompt(pipeline: Pipeline) -> None:
    """Prompts may come from strangers, and nobody's variables are theirs."""
    model = find_model("black-forest-labs/flux-schnell")
    values = model.validate({"prompt": f"env:{VARIABLE}", "seed": 1})
    request = build_request(model, values, Source("set", "castle"))
    pipeline.read_secret = {VARIABLE: CANARY}.get

    pipeline.run([request])

    (made,) = pipeline.server.usage().predictions
    assert made.input["prompt"] == f"env:{VARIABLE}"


def test_a_model_that_the_provider_lacks_is_said_before_anything_is_sent(
    pipeline: Pipeline,
) -> None:
    pipeline.models = ("owner/another",)
    picture = draw(pipeline.folder / "castle.png", at_least=LARGE)

    assert pipeline.run([upscale(picture)]).failed == 1

    assert (pipeline.received, uploads(pipeline)) == (0, {})
    assert "nightmareai/real-esrgan" in reasons(pipeline)[0]


def test_a_secret_is_hidden_wherever_a_reply_repeats_it() -> None:
    prediction = Prediction(
        id="p", status=Status.FAILED, error="bad key: hush", raw='{"key":"hush"}', logs="hush"
    )
    hidden = hide(Polled(prediction), ["hush"]).prediction
    assert "hush" not in f"{hidden.error}{hidden.raw}{hidden.logs}"
    assert hide(Refused(422, "hush"), ["hush"]).code == 422
    assert "hush" not in hide(Refused(422, "no hush"), ["hush"]).detail
