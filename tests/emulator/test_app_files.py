"""Downloads: the right bytes under the right name, while they exist."""

import io
from typing import Literal

import pytest
from PIL import Image

from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from tests.emulator.api import Api, ManualClock
from tests.emulator.conftest import Start

FORMATS = {"webp": "image/webp", "jpg": "image/jpeg", "png": "image/png"}


@pytest.mark.parametrize("image_format", FORMATS)
def test_a_file_has_its_type_and_length(start: Start, image_format: str) -> None:
    _, api = start()
    reply = api.download(api.finished(output_format=image_format)["output"][0])
    assert reply.headers["content-type"] == FORMATS[image_format]
    assert int(reply.headers["content-length"]) == len(reply.content)


def test_a_picture_is_drawn_in_full(start: Start) -> None:
    _, api = start(render="picture")
    reply = api.download(api.finished(aspect_ratio="21:9")["output"][0])
    assert Image.open(io.BytesIO(reply.content)).size == (1536, 640)


@pytest.mark.parametrize("render", ["picture", "cheap"])
def test_a_file_is_finished_before_it_is_served(render: Literal["picture", "cheap"]) -> None:
    options = EmulatorOptions(time_scale=0, render=render)
    with EmulatorServer(options, finish=lambda body: b"signed " + body) as server:
        api = Api(server.origin)
        assert api.download(api.finished()["output"][0]).content.startswith(b"signed RIFF")
        api.close()


def test_files_exist_only_once_the_prediction_has_succeeded(
    start: Start, clock: ManualClock
) -> None:
    _, api = start(time_scale=1)
    url = f"{api.origin}/output/{api.create()['id']}/out-0.webp"
    assert api.download(url).status_code == 404
    clock.advance(10)
    assert api.download(url).status_code == 200


@pytest.mark.parametrize("path", ["nothing/out-0.webp", "{id}/out-1.webp", "{id}/out-0.png"])
def test_other_names_are_not_found(start: Start, path: str) -> None:
    _, api = start()
    url = f"{api.origin}/output/" + path.format(id=api.finished()["id"])
    assert api.download(url).status_code == 404
