"""Input pictures are fetched when a prediction starts, kept, and missed where they are gone."""

import base64
import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from tests.emulator.api import PATIENCE, Api, ManualClock, accepted
from tests.emulator.conftest import Start
from tests.emulator.samples import CUTTER, DRAWER, EDITOR, UPSCALER, WITHOUT_SEED, opened, picture

SOURCE = picture((48, 32))
SHA = hashlib.sha256(SOURCE).hexdigest()
DATA_URI = f"data:image/png;base64,{base64.b64encode(SOURCE).decode()}"


def made_from(server: EmulatorServer) -> list[list[str]]:
    return [[each.sha256 for each in done.pictures] for done in server.usage().predictions]


@contextmanager
def web(status: int = 200, location: str = "") -> Iterator[tuple[str, list[str]]]:
    """A server on this machine that serves SOURCE at every path: its origin, and what was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            if location:
                self.send_header("location", location)
            self.send_header("content-length", str(len(SOURCE)))
            self.end_headers()
            self.wfile.write(SOURCE)

        def log_message(self, *args: Any) -> None:
            del args

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("render", ["cheap", "picture"])
def test_an_upscaler_enlarges_what_was_uploaded(start: Start, render: str) -> None:
    server, api = start(render=render)
    done = api.done(UPSCALER, {"image": api.upload(SOURCE)["urls"]["get"], "scale": 2})
    file = opened(api.download(done["output"]).content)
    assert (file.size, file.format) == ((96, 64), "PNG")
    assert made_from(server) == [[SHA]]
    assert server.usage().predictions[0].pictures[0].width == 48


def test_a_chain_looks_like_one(start: Start) -> None:
    server, api = start(render="picture")
    drawn = api.done(DRAWER, {"prompt": "a red fox", "megapixels": "0.25"})["output"][0]
    edited = api.done(EDITOR, {"prompt": "at night", "input_image": drawn})["output"]
    enlarged = api.done(UPSCALER, {"image": edited, "scale": 1.5})["output"]
    cut = api.done(CUTTER, {"image": enlarged})["output"]
    files = [api.download(url).content for url in (drawn, edited, enlarged, cut)]
    images = [opened(file) for file in files]
    assert [image.size for image in images] == [(512, 512)] * 2 + [(768, 768)] * 2
    assert images[3].convert("RGBA").getpixel((0, 0))[3] == 0  # type: ignore[index]
    shas = [hashlib.sha256(file).hexdigest() for file in files]
    assert made_from(server) == [[], *([sha] for sha in shas[:3])]


def test_data_uris_and_addresses_of_this_machine_are_fetched(start: Start) -> None:
    server, api = start()
    with web() as (origin, asked):
        link = f"{origin}/a/b.png?X-Signature=7"
        done = api.done(WITHOUT_SEED, {"prompt": "x", "image_input": [DATA_URI, link]})
    assert done["status"] == "succeeded"
    assert made_from(server) == [[SHA, SHA]]
    assert asked == ["/a/b.png?X-Signature=7"]
    assert [each.position for each in server.usage().predictions[0].pictures] == [0, 1]


def test_a_picture_counts_by_its_content_wherever_it_lies(start: Start) -> None:
    server, api = start()
    for url in (DATA_URI, *(api.upload(SOURCE)["urls"]["get"] for _ in range(2))):
        accepted(api.order(UPSCALER, {"image": url}))
    usage = server.usage()
    assert (usage.creates_accepted, usage.distinct_inputs) == (3, 1)


def test_a_file_must_be_there_when_the_prediction_starts(start: Start, clock: ManualClock) -> None:
    _, api = start(time_scale=1, latency_median=100, latency_spread=0, file_seconds=10)
    url = api.upload(SOURCE)["urls"]["get"]
    late = accepted(api.order(UPSCALER, {"image": url}))
    assert late["status"] == "starting"
    clock.advance(101)
    failed = api.get(late["id"])
    assert failed["status"] == "failed"
    assert failed["error"] == (
        f"Failed to download input image: 404 Client Error: Not Found for url: {url}"
    )


def test_a_file_that_goes_after_the_start_was_fetched(start: Start, clock: ManualClock) -> None:
    server, api = start(time_scale=1, latency_median=100, latency_spread=0, file_seconds=50)
    created = accepted(api.order(UPSCALER, {"image": api.upload(SOURCE)["urls"]["get"]}))
    clock.advance(101)  # it started after 20 s
    assert api.get(created["id"])["status"] == "succeeded"
    assert made_from(server) == [[SHA]]


def test_it_is_fetched_at_the_start_though_nobody_asks(start: Start) -> None:
    server, api = start()
    with web() as (origin, asked):
        accepted(api.order(UPSCALER, {"image": f"{origin}/a.png"}))
        end = time.monotonic() + PATIENCE
        while made_from(server) != [[SHA]] and time.monotonic() < end:
            time.sleep(0.005)
    assert asked == ["/a.png"]


def test_it_is_fetched_though_the_clock_is_slower_than_the_event_loops() -> None:
    began = time.time()
    options = EmulatorOptions(latency_median=0.25, latency_spread=0, render="cheap")
    with EmulatorServer(options, clock=lambda: began + (time.time() - began) / 2) as server:
        api = Api(server.origin)
        accepted(api.order(UPSCALER, {"image": DATA_URI}))
        api.close()
        end = time.monotonic() + PATIENCE
        while made_from(server) != [[SHA]] and time.monotonic() < end:
            time.sleep(0.005)
        assert made_from(server) == [[SHA]]


def test_nothing_is_fetched_for_what_was_cancelled_before(start: Start, clock: ManualClock) -> None:
    server, api = start(time_scale=1, latency_median=100)
    created = accepted(api.order(UPSCALER, {"image": DATA_URI}))
    api.cancel(created["id"])
    clock.advance(1000)
    assert api.get(created["id"])["status"] == "canceled"
    assert made_from(server) == [[]]


def test_a_prediction_is_made_from_its_picture_after_a_restart(
    start: Start, tmp_path: Path
) -> None:
    server, api = start(state_dir=tmp_path)
    done = api.done(UPSCALER, {"image": DATA_URI, "scale": 2})
    before = api.download(done["output"]).content
    server.stop()
    _, again = start(state_dir=tmp_path)
    path = done["output"].removeprefix(api.origin)
    assert again.download(again.origin + path).content == before


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://169.254.169.254/latest/meta-data/", "input_hosts"),
        ("https://example.com/a.png", "input_hosts"),
        ("file:///etc/passwd", "input_hosts"),
        ("data:image/png;base64,###", "invalid data URI"),
        ("data:nothing", "invalid data URI"),
        ("data:image/png,text", "cannot identify image"),
        ("http://127.0.0.1:1/a.png", "ConnectionRefusedError"),
        ("http://127.0.0.1:1/v1/files/" + "7" * 26, "ConnectionRefusedError"),
    ],
)
def test_what_cannot_be_fetched_fails_the_prediction(start: Start, url: str, said: str) -> None:
    _, api = start()
    failed = api.done(UPSCALER, {"image": url})
    assert failed["status"] == "failed"
    assert said in failed["error"]
    assert failed["output"] is None


@pytest.mark.parametrize(
    ("status", "location", "said"),
    [
        (404, "", "404 Client Error: Not Found"),
        (503, "", "503 Server Error"),
        (302, "http://169.254.169.254/", "input_hosts"),
        (302, "/again", "too many redirects"),
    ],
)
def test_servers_that_refuse_and_redirects_away_fail_it(
    start: Start, status: int, location: str, said: str
) -> None:
    _, api = start()
    with web(status, location) as (origin, _):
        assert said in api.done(UPSCALER, {"image": f"{origin}/a.png"})["error"]


def test_a_host_that_a_client_claims_to_have_asked_is_never_asked(start: Start) -> None:
    _, api = start(input_hosts=frozenset())
    with web() as (origin, asked):
        reply = api.http.post(
            "/v1/predictions",
            json={"version": UPSCALER, "input": {"image": f"{origin}/a.png"}},
            headers={"host": origin.removeprefix("http://")},
        )
        failed = api.get(accepted(reply)["id"])
    assert "404 Client Error" in failed["error"]
    assert asked == []


def test_a_result_may_be_too_large_for_a_model(start: Start) -> None:
    _, api = start()
    large = picture((4000, 3000))
    failed = api.done(UPSCALER, {"image": api.upload(large)["urls"]["get"], "scale": 10})
    assert failed["error"].startswith("CUDA out of memory")


@pytest.mark.parametrize("fault", ["expired", "not_found", "reset", "server_error"])
def test_fetches_meet_faults_and_their_series_belongs_to_the_picture(
    start: Start, fault: str
) -> None:
    server, api = start(FaultPlan.model_validate({"input": {fault: 1.0}, "cap": 1}))
    file = api.upload(SOURCE)
    failed = api.done(UPSCALER, {"image": file["urls"]["get"]})
    assert failed["error"].startswith("Failed to download input image: ")
    gone = api.http.get(f"/v1/files/{file['id']}").status_code == 404
    assert gone == (fault == "expired")
    again = api.upload(SOURCE)["urls"]["get"]
    assert api.done(UPSCALER, {"image": again})["status"] == "succeeded"
    assert server.usage().faults == {f"input.{fault}": 1}


def test_a_list_of_predictions_fetches_too(start: Start) -> None:
    _, api = start()
    accepted(api.order(UPSCALER, {"image": DATA_URI}))
    assert api.list()["results"][0]["status"] == "succeeded"


def test_prefer_wait_waits_for_the_fetch(start: Start) -> None:
    _, api = start()
    body = {"version": UPSCALER, "input": {"image": DATA_URI}}
    reply = api.http.post("/v1/predictions", json=body, headers={"prefer": "wait"})
    assert accepted(reply)["status"] == "succeeded"
    missing = {"version": UPSCALER, "input": {"image": f"{api.origin}/v1/files/{'7' * 26}"}}
    reply = api.http.post("/v1/predictions", json=missing, headers={"prefer": "wait"})
    assert accepted(reply)["status"] == "failed"
