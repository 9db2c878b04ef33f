"""The official Python client, used as its readme says, takes the emulator for the API."""

import io
from pathlib import Path

import pytest
import replicate
from PIL import Image
from replicate.exceptions import ModelError, ReplicateError

from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.emulator.ledger import fingerprint_key
from flux_pipeline.emulator.server import EmulatorServer
from tests.emulator.api import VERSION
from tests.emulator.conftest import Start

MODEL = f"lucataco/flux-schnell-lora:{VERSION}"


def client(server: EmulatorServer) -> replicate.Client:
    made = replicate.Client(api_token="r8_official", base_url=server.origin)
    made.poll_interval = 0.001
    return made


def test_it_creates_waits_and_downloads(start: Start, tmp_path: Path) -> None:
    server, _ = start()
    prediction = client(server).predictions.create(
        version=VERSION, input={"prompt": "a castle", "num_outputs": 2, "aspect_ratio": "3:2"}
    )
    prediction.wait()
    assert prediction.status == "succeeded"
    assert prediction.output is not None
    assert len(prediction.output) == 2
    assert prediction.metrics is not None
    assert prediction.progress is not None
    assert prediction.progress.percentage == 1.0


def test_run_gives_files(start: Start) -> None:
    server, _ = start()
    output = client(server).run(MODEL, input={"prompt": "a castle", "output_format": "png"})
    assert isinstance(output, list)
    image = Image.open(io.BytesIO(output[0].read()))
    assert (image.format, image.size) == ("PNG", (1024, 1024))


def test_it_sends_its_token_to_output_hosts_and_the_ledger_sees_it(start: Start) -> None:
    server, _ = start()
    output = client(server).run(MODEL, input={"prompt": "a castle"})
    output[0].read()
    seen = server.ledger().keys_by_route["GET /output/{id}"]
    assert seen == {fingerprint_key("r8_official"): 1}


def test_it_lists_page_by_page(start: Start) -> None:
    server, _ = start(page_size=2)
    official = client(server)
    made = [
        official.predictions.create(version=VERSION, input={"prompt": "x", "seed": seed}).id
        for seed in range(3)
    ]
    page = official.predictions.list()
    assert [prediction.id for prediction in page] == [made[2], made[1]]
    assert page.next is not None
    rest = official.predictions.list(page.next.removeprefix("https://trap.invalid"))
    assert [prediction.id for prediction in rest] == [made[0]]


def test_it_cancels(start: Start) -> None:
    server, _ = start(time_scale=1)
    prediction = client(server).predictions.create(version=VERSION, input={"prompt": "x"})
    prediction.cancel()
    assert prediction.status == "canceled"


def test_it_understands_refusals(start: Start) -> None:
    server, _ = start()
    with pytest.raises(ReplicateError) as caught:
        client(server).predictions.create(version=VERSION, input={"prompt": "x", "num_outputs": 9})
    assert caught.value.status == 422
    assert "num_outputs" in str(caught.value.detail)


def test_it_understands_failures(start: Start) -> None:
    server, _ = start(FaultPlan(outcome={"failed_nsfw": 1.0}))
    with pytest.raises(ModelError, match="NSFW"):
        client(server).run(MODEL, input={"prompt": "x"})
