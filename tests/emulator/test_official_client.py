"""The official Python client takes the emulator for the API."""

import hashlib
import io
from collections.abc import Callable, Iterator

import pytest
from PIL import Image
from replicate.client import Client
from replicate.exceptions import ReplicateError
from replicate.helpers import FileOutput

from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.emulator.server import EmulatorServer
from flux_pipeline.emulator.usage import fingerprint_key
from tests.emulator.api import VERSION
from tests.emulator.conftest import Start
from tests.emulator.samples import DRAWER, UPSCALER, picture

Connect = Callable[[EmulatorServer], Client]


@pytest.fixture
def connect() -> Iterator[Connect]:
    made: list[Client] = []

    def build(server: EmulatorServer) -> Client:
        client = Client(api_token="r8_official", base_url=server.origin)
        client.poll_interval = 0.001
        made.append(client)
        return client

    yield build
    for client in made:
        client._client.close()


def test_it_creates_waits_and_downloads(start: Start, connect: Connect) -> None:
    server, _ = start()
    client = connect(server)
    prediction = client.predictions.create(
        version=VERSION,
        input={"prompt": "a castle", "num_outputs": 2, "aspect_ratio": "3:2"},
    )
    prediction.wait()
    assert (prediction.status, prediction.error) == ("succeeded", None)
    assert prediction.progress is not None
    assert prediction.progress.percentage == 1.0
    assert prediction.output is not None
    files = [FileOutput(url, client).read() for url in prediction.output]
    assert [Image.open(io.BytesIO(file)).size for file in files] == [(1216, 832)] * 2
    assert server.usage().creates_accepted == 1


def test_prefer_wait_finishes_in_one_call(start: Start, connect: Connect) -> None:
    server, _ = start()
    prediction = connect(server).predictions.create(
        version=VERSION, input={"prompt": "a castle"}, wait=True
    )
    assert prediction.status == "succeeded"


def test_it_sends_its_token_to_output_hosts_and_the_ledger_sees_it(
    start: Start, connect: Connect
) -> None:
    server, api = start()
    FileOutput(api.finished()["output"][0], connect(server)).read()
    seen = server.usage().keys_by_route["GET /output/{id}"]
    assert seen == {fingerprint_key("r8_official"): 1}


def test_it_lists_page_by_page(start: Start, connect: Connect) -> None:
    server, _ = start(page_size=2)
    client = connect(server)
    made = [
        client.predictions.create(version=VERSION, input={"prompt": "x", "seed": seed}).id
        for seed in range(3)
    ]
    page = client.predictions.list()
    assert [prediction.id for prediction in page.results] == [made[2], made[1]]
    assert page.next is not None
    rest = client.predictions.list(page.next.removeprefix("https://trap.invalid"))
    assert [prediction.id for prediction in rest.results] == [made[0]]


def test_it_cancels(start: Start, connect: Connect) -> None:
    server, _ = start(time_scale=1)
    prediction = connect(server).predictions.create(version=VERSION, input={"prompt": "x"})
    prediction.cancel()
    assert prediction.status == "canceled"


def test_it_understands_refusals(start: Start, connect: Connect) -> None:
    server, _ = start()
    with pytest.raises(ReplicateError) as caught:
        connect(server).predictions.create(version=VERSION, input={"prompt": "x", "num_outputs": 9})
    assert caught.value.status == 422
    assert "num_outputs" in str(caught.value.detail)


def test_it_understands_failures(start: Start, connect: Connect) -> None:
    server, _ = start(FaultPlan(outcome={"failed_nsfw": 1.0}))
    prediction = connect(server).predictions.create(version=VERSION, input={"prompt": "x"})
    prediction.wait()
    assert prediction.status == "failed"
    assert "NSFW" in str(prediction.error)


def test_it_uploads_a_picture_and_reads_it_enlarged(start: Start, connect: Connect) -> None:
    server, _ = start(render="picture")
    client = connect(server)
    source = picture((48, 32), "red")
    output = client.run(UPSCALER, input={"image": io.BytesIO(source), "scale": 2})
    file = FileOutput(str(output), client).read()
    enlarged = Image.open(io.BytesIO(file)).convert("RGB")
    assert (enlarged.size, enlarged.getpixel((9, 9))) == ((96, 64), (255, 0, 0))
    sha256 = hashlib.sha256(source).hexdigest()
    usage = server.usage()
    assert usage.uploads == {sha256: 1}
    assert [each.sha256 for each in usage.predictions[0].pictures] == [sha256]


def test_it_keeps_files(start: Start, connect: Connect) -> None:
    server, _ = start()
    client = connect(server)
    file = client.files.create(io.BytesIO(picture()), filename="a.png", metadata={"of": "me"})
    assert client.files.get(file.id) == file
    assert [each.id for each in client.files.list()] == [file.id]
    assert (file.metadata, file.content_type) == ({"of": "me"}, "image/png")
    assert client.files.delete(file.id)
    assert client.files.list() == []


def test_it_reads_models_and_creates_official_ones(start: Start, connect: Connect) -> None:
    server, _ = start()
    client = connect(server)
    model = client.models.get(DRAWER)
    assert model.latest_version is not None
    schema = model.latest_version.openapi_schema["components"]["schemas"]
    assert schema["Input"]["required"] == ["prompt"]
    prediction = client.models.predictions.create(model=DRAWER, input={"prompt": "x"})
    prediction.wait()
    assert (prediction.status, prediction.model) == ("succeeded", DRAWER)
    community = client.models.get(UPSCALER.split(":")[0])
    assert [each.id for each in community.versions.list().results] == [UPSCALER.split(":")[1]]
