"""POST: what is accepted, what the replies look like, and how long they are held."""

import base64
import io

import httpx
import pytest
from PIL import Image

from flux_pipeline.emulator.faults import FaultPlan
from tests.emulator.api import VERSION, Api, accepted
from tests.emulator.conftest import Start


@pytest.mark.parametrize("prefix", ["/v1", "/replicate/v1"])
def test_both_prefixes_make_predictions(start: Start, prefix: str) -> None:
    _, api = start(prefix=prefix)
    assert api.finished()["status"] == "succeeded"


def test_a_new_prediction_looks_like_the_documented_example(start: Start) -> None:
    _, api = start(time_scale=1)
    sent = {"aspect_ratio": "1:1", "lora_scale": 0.8, "num_outputs": 1, "output_format": "webp"}
    made = api.create("a beautiful castle", **sent)
    assert len(made["id"]) == 26
    assert made["model"] == "lucataco/flux-schnell-lora"
    assert made["version"] == VERSION
    assert made["input"] == {"prompt": "a beautiful castle", **sent}
    assert (made["status"], made["output"], made["error"]) == ("starting", None, None)
    assert (made["logs"], made["data_removed"]) == ("", False)
    assert made["created_at"].endswith("Z")
    assert set(made["urls"]) == {"get", "cancel", "stream", "web"}


def test_a_version_may_name_its_model(start: Start) -> None:
    _, api = start()
    body = {"version": f"someone/their-model:{VERSION}", "input": {"prompt": "x"}}
    made = accepted(api.http.post(api.path, json=body))
    assert (made["model"], made["version"]) == ("someone/their-model", VERSION)


def test_every_url_of_a_reply_is_on_the_trap(start: Start) -> None:
    _, api = start(trap_origin="https://elsewhere.invalid")
    assert all(
        url.startswith("https://elsewhere.invalid/") for url in api.create()["urls"].values()
    )


def test_unknown_inputs_are_dropped_without_a_word_and_paid_for(start: Start) -> None:
    server, api = start()
    assert api.create("x", num_output=4)["input"] == {"prompt": "x"}
    assert server.usage().creates_accepted == 1


@pytest.mark.parametrize("status", [200, 201, 202])
def test_the_status_of_a_good_create_can_be_chosen(start: Start, status: int) -> None:
    _, api = start(create_status=status)
    assert api.post().status_code == status


def test_prefer_wait_holds_the_reply_until_the_end(start: Start) -> None:
    _, api = start(time_scale=0)
    made = accepted(api.post(headers={"Prefer": "wait"}))
    assert (made["status"], len(made["output"])) == ("succeeded", 1)


def test_prefer_wait_gives_up_after_its_seconds(start: Start) -> None:
    _, api = start(time_scale=1)  # the clock stands still, so it never ends
    made = accepted(api.post(headers={"Prefer": "wait=1"}))
    assert made["status"] == "starting"


def test_without_prefer_the_reply_comes_at_once(start: Start) -> None:
    _, api = start(time_scale=1)
    assert accepted(api.post(headers={"Prefer": "respond-async"}))["status"] == "starting"


def test_the_data_shape_has_urls_and_no_id(start: Start) -> None:
    _, api = start(reply_shape="data_url")
    reply = accepted(api.post(num_outputs=2))
    assert set(reply) == {"created", "data"}
    assert [item["url"].rsplit("/")[-1] for item in reply["data"]] == ["out-0.webp", "out-1.webp"]
    assert api.download(reply["data"][1]["url"]).status_code == 200


def test_the_base64_shape_holds_the_file(start: Start) -> None:
    _, api = start(reply_shape="data_b64")
    item = accepted(api.post(aspect_ratio="16:9"))["data"][0]
    image = Image.open(io.BytesIO(base64.b64decode(item["b64_json"])))
    assert image.size == (1344, 768)


def test_a_failure_in_the_data_shape_is_an_error_object(start: Start) -> None:
    _, api = start(FaultPlan(outcome={"failed_nsfw": 1.0}), reply_shape="data_url")
    reply = api.post()
    assert reply.status_code == 200
    assert "NSFW" in reply.json()["error"]["message"]


def test_an_error_object_comes_under_200_and_buys_nothing(start: Start) -> None:
    server, api = start(reply_shape="error_object")
    reply = api.post()
    assert reply.status_code == 200
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    assert server.usage().creates_accepted == 0


@pytest.mark.parametrize(
    ("shape", "images", "alone"),
    [("list", 1, False), ("string", 1, True), ("string", 2, False), ("data_uri", 1, False)],
)
def test_output_comes_in_each_known_shape(
    start: Start, shape: str, images: int, *, alone: bool
) -> None:
    _, api = start(output_shape=shape)
    output = api.finished(num_outputs=images)["output"]
    assert isinstance(output, str if alone else list)
    first = str(output if alone else output[0])
    assert first.startswith("data:image/webp;base64," if shape == "data_uri" else api.origin)


def test_output_urls_can_carry_a_signature(start: Start) -> None:
    _, api = start(signed_outputs=True)
    url = api.finished()["output"][0]
    assert "?X-Signature=" in url
    assert httpx.URL(url).path.endswith("/out-0.webp")
    assert api.download(url).status_code == 200


def test_output_urls_can_be_on_another_origin(start: Start) -> None:
    _, api = start(output_origin="https://files.invalid")
    made = api.finished()
    assert made["output"] == [f"https://files.invalid/output/{made['id']}/out-0.webp"]


def test_output_urls_follow_the_host_that_was_asked(start: Start) -> None:
    server, _ = start()
    api = Api(server.origin.replace("127.0.0.1", "localhost"))
    assert api.finished()["output"][0].startswith("http://localhost:")
    api.close()
