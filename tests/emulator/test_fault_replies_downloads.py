"""Faulty downloads, as hostile or failing file hosts send them."""

import gzip
import io
from itertools import islice

import httpx
import pytest
from PIL import Image

from flux_pipeline.emulator.fault_replies import METADATA_SERVICE, UNPACKED_BYTES
from flux_pipeline.emulator.faults import FaultPlan
from tests.emulator.api import Api, impatient
from tests.emulator.conftest import Start
from tests.emulator.trap import Trap

FORMATS = {"webp": "image/webp", "jpg": "image/jpeg", "png": "image/png"}


def spoiled(start: Start, fault: str, **more: object) -> tuple[Api, str]:
    """A client and the URL of an output whose first download goes wrong."""
    plan = FaultPlan.model_validate({"download": {fault: 1.0}, "cap": 1})
    _, api = start(plan)
    return api, api.finished(**more)["output"][0]


def good(api: Api, url: str) -> httpx.Response:
    """The next download, which goes well."""
    reply = api.download(url)
    Image.open(io.BytesIO(reply.content)).load()
    return reply


@pytest.mark.parametrize(("fault", "status"), [("not_found", 404), ("forbidden", 403)])
def test_a_file_can_be_refused_once(start: Start, fault: str, status: int) -> None:
    api, url = spoiled(start, fault)
    assert api.download(url).status_code == status
    good(api, url)


def test_a_server_error_passes(start: Start) -> None:
    api, url = spoiled(start, "server_error")
    assert api.download(url).status_code >= 500
    good(api, url)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("reset", httpx.ReadError),
        ("cut_with_length", httpx.RemoteProtocolError),
        ("cut_chunked", httpx.RemoteProtocolError),
    ],
)
def test_a_connection_that_ends_too_early_is_seen(
    start: Start, fault: str, error: type[Exception]
) -> None:
    api, url = spoiled(start, fault)
    with pytest.raises(error):
        api.download(url)
    good(api, url)


def test_a_download_can_hang(start: Start) -> None:
    server, api = start(FaultPlan(download={"hang": 1.0}, cap=1))
    url = api.finished()["output"][0]
    with impatient(api.files, lambda: server.usage().faults), pytest.raises(httpx.ReadTimeout):
        api.download(url)
    good(api, url)


@pytest.mark.parametrize("fault", ["cut_without_length", "half_file"])
def test_half_a_file_can_look_like_a_whole_reply(start: Start, fault: str) -> None:
    api, url = spoiled(start, fault)
    half = api.download(url)
    assert half.status_code == 200
    right = good(api, url).content
    assert right.startswith(half.content)
    assert len(half.content) == len(right) // 2


def test_a_slow_file_comes_whole(start: Start) -> None:
    plan = FaultPlan(download={"slow": 1.0}, slow_bytes_per_second=10_000)
    _, api = start(plan)
    url = api.finished()["output"][0]
    with api.files.stream("GET", url) as reply:
        pieces = list(reply.iter_raw())
    assert len(pieces) > 1
    Image.open(io.BytesIO(b"".join(pieces))).load()


def test_an_endless_file_says_no_length(start: Start) -> None:
    api, url = spoiled(start, "endless")
    with api.files.stream("GET", url) as reply:
        assert "content-length" not in reply.headers
        assert sum(map(len, islice(reply.iter_raw(65_536), 40))) > 2**21
    good(api, url)


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("empty", lambda wrong, _: wrong == b""),
        ("trailing_bytes", lambda wrong, right: wrong[: len(right)] == right != wrong),
        ("wrong_format", lambda wrong, right: wrong[:4] != right[:4]),
        ("wrong_size", lambda wrong, _: Image.open(io.BytesIO(wrong)).size == (512, 512)),
        ("blank", lambda wrong, _: len(Image.open(io.BytesIO(wrong)).getcolors() or ()) == 1),
    ],
)
def test_other_bytes_come_under_the_right_type(
    start: Start, image_format: str, fault: str, check: object
) -> None:
    api, url = spoiled(start, fault, output_format=image_format)
    wrong = api.download(url)
    assert (wrong.status_code, wrong.headers["content-type"]) == (200, FORMATS[image_format])
    assert callable(check)
    assert check(wrong.content, good(api, url).content)


def test_another_type_is_a_real_file_of_that_type(start: Start) -> None:
    api, url = spoiled(start, "wrong_type")
    reply = api.download(url)
    assert reply.headers["content-type"] == "image/gif"
    assert Image.open(io.BytesIO(reply.content)).format == "GIF"


def test_a_page_can_come_instead(start: Start) -> None:
    api, url = spoiled(start, "html")
    assert api.download(url).text.startswith("<!doctype html>")


def test_a_gzip_bomb_is_small_until_it_is_unpacked(start: Start) -> None:
    api, url = spoiled(start, "gzip_bomb")
    with api.files.stream("GET", url) as reply:
        assert reply.headers["content-encoding"] == "gzip"
        packed = b"".join(reply.iter_raw())
    assert len(packed) < 100_000
    assert len(gzip.decompress(packed)) == UNPACKED_BYTES == 2**26


@pytest.mark.parametrize("image_format", FORMATS)
def test_a_pixel_bomb_is_refused_by_whoever_reads_its_header(
    start: Start, image_format: str
) -> None:
    api, url = spoiled(start, "pixel_bomb", output_format=image_format)
    file = api.download(url).content
    assert len(file) < 2000
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(file))


def test_a_redirect_can_lead_to_the_clouds_credentials(start: Start) -> None:
    api, url = spoiled(start, "redirect_private")
    reply = api.download(url)
    assert (reply.status_code, reply.headers["location"]) == (302, METADATA_SERVICE)


def test_a_redirect_can_lead_to_another_host_which_sees_who_follows(
    start: Start, trap: Trap
) -> None:
    _, api = start(FaultPlan(download={"redirect_other_host": 1.0}), trap_origin=trap.origin)
    url = api.finished()["output"][0]
    api.http.get(url, follow_redirects=True)
    assert [caught.path for caught in trap.received] == [httpx.URL(url).path]
    assert "authorization" not in trap.received[0].headers  # httpx drops it on the way


def test_an_expired_file_takes_the_prediction_with_it(start: Start) -> None:
    api, url = spoiled(start, "expired")
    assert api.download(url).status_code == 404
    assert api.download(url).status_code == 404
    gone = api.list()["results"][0]
    assert (gone["data_removed"], gone["output"], gone["input"]) == (True, None, {})


def test_faults_meet_each_file_on_its_own(start: Start) -> None:
    plan = FaultPlan(seed=1, download={"server_error": 0.5})
    _, api = start(plan)
    urls = [url for seed in range(5) for url in api.finished(seed=seed, num_outputs=4)["output"]]
    failed = sum(api.download(url).status_code >= 500 for url in urls)
    assert 3 < failed < 17
