"""The client with models of contracts: uploads, both create routes, and settling without a seed."""

import asyncio
import hashlib
import time
from dataclasses import replace
from io import BytesIO

import pytest
from PIL import Image

from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from flux_pipeline.models import find_model
from flux_pipeline.outcomes import (
    Absent,
    Accepted,
    CreateOutcome,
    Found,
    NoFiles,
    Polled,
    Rejected,
    Uploaded,
    UploadFailed,
)
from flux_pipeline.prediction import Prediction, Status
from flux_pipeline.provider.client import Provider
from flux_pipeline.request import InputPicture, Request
from tests.provider.samples import Configured, make_request

pytestmark = pytest.mark.anyio

OPTIONS = EmulatorOptions(time_scale=0, render="cheap")
UPSCALER, DRAWER = "nightmareai/real-esrgan", "google/nano-banana"


def picture() -> bytes:
    file = BytesIO()
    Image.new("RGB", (32, 24), "red").save(file, "PNG")
    return file.getvalue()


CONTENT = picture()
IMAGE = InputPicture(hashlib.sha256(CONTENT).hexdigest(), "refs/red.png", len(CONTENT), "image/png")


def request_of(name: str, **given: object) -> Request:
    """A request of a model without a seed, whose contract is shipped."""
    return replace(
        make_request(seed=None),
        model=name,
        version=find_model(name).version,
        input=given,
        seed_input="",
        pictures=(IMAGE,),
    )


async def finished(provider: Provider, outcome: CreateOutcome) -> Prediction:
    assert isinstance(outcome, Accepted), outcome
    assert outcome.prediction.id is not None
    while True:
        polled = await provider.poll(outcome.prediction.id)
        assert isinstance(polled, Polled), polled
        if polled.prediction.status.is_final:
            return polled.prediction
        await asyncio.sleep(0.01)


async def test_an_uploaded_picture_goes_into_a_prediction(configured: Configured) -> None:
    request = request_of(UPSCALER, image=IMAGE.reference, scale=2)
    with EmulatorServer(OPTIONS) as server:
        async with Provider(configured(server.origin + "/replicate")) as provider:
            uploaded = await provider.upload(CONTENT, filename="red.png", content_type="image/png")
            assert isinstance(uploaded, Uploaded), uploaded
            sent = {"image": uploaded.url, "scale": 2}
            created = await provider.create(request, sent_input=sent)
            prediction = await finished(provider, created)
            body = await provider.download(prediction.outputs[0])
            found = await provider.find(
                request, since=time.time(), age=1.0, sent_as={IMAGE.sha256: [uploaded.url]}
            )
            none = await provider.find(
                request, since=time.time(), age=1.0, sent_as={IMAGE.sha256: ["data:"]}
            )
    assert prediction.status is Status.SUCCEEDED
    with Image.open(BytesIO(body)) as image:
        assert image.size == (64, 48)
    assert isinstance(found, Found)
    assert found.prediction.id == prediction.id
    assert none == Absent()
    assert uploaded.sha256 == IMAGE.sha256
    assert uploaded.expires_at is not None
    assert prediction.metrics["image_output_count"] == 1.0


async def test_takes_of_one_input_are_found_oldest_first(configured: Configured) -> None:
    request = request_of(DRAWER, prompt="a castle")
    with EmulatorServer(OPTIONS) as server:
        async with Provider(configured(server.origin)) as provider:
            ids = [(await finished(provider, await provider.create(request))).id for _ in "abc"]
            known: set[str] = set()
            for expected in ids:
                found = await provider.find(request, since=time.time(), age=3.0, known=known)
                assert isinstance(found, Found)
                assert found.prediction.id == expected
                known.add(expected or "")
            assert await provider.find(request, since=time.time(), age=3.0, known=known) == Absent()


@pytest.mark.parametrize("route", ["predictions", "models"])
async def test_a_provider_with_one_route_for_official_models(
    configured: Configured, route: str
) -> None:
    official, pinned = request_of(DRAWER, prompt="x"), make_request()
    options = OPTIONS.model_copy(update={"create_routes": "both"})
    with EmulatorServer(options) as server:
        async with Provider(configured(server.origin, route=route)) as provider:
            for request in (official, pinned):
                prediction = await finished(provider, await provider.create(request))
                assert prediction.model == request.model


async def test_an_aggregator_takes_official_models_by_their_path_alone(
    configured: Configured,
) -> None:
    options = OPTIONS.model_copy(
        update={"create_routes": "apart", "models_enabled": False, "files_enabled": False}
    )
    with EmulatorServer(options) as server:
        async with Provider(configured(server.origin, route="models")) as provider:
            await finished(provider, await provider.create(request_of(DRAWER, prompt="x")))
            await finished(provider, await provider.create(make_request()))
            upload = await provider.upload(CONTENT, filename="a.png", content_type="image/png")
        async with Provider(configured(server.origin, route="predictions")) as provider:
            refused = await provider.create(request_of(DRAWER, prompt="x"))
        usage = server.usage()
    assert isinstance(upload, NoFiles)
    assert isinstance(refused, Rejected)
    assert usage.creates_accepted == 2


async def test_a_file_that_the_provider_finds_too_large_is_refused(
    configured: Configured,
) -> None:
    options = OPTIONS.model_copy(update={"max_file_bytes": 10})
    with EmulatorServer(options) as server:
        async with Provider(configured(server.origin)) as provider:
            outcome = await provider.upload(CONTENT, filename="a.png", content_type="image/png")
    assert isinstance(outcome, UploadFailed)
    assert not outcome.retry
