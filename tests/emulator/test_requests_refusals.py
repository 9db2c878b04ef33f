"""What creates nothing: wrong keys, wrong values, no credit, too many calls."""

import json
import re
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from flux_pipeline.emulator.faults import FaultPlan
from tests.emulator.api import VERSION, Api, ManualClock
from tests.emulator.conftest import Start


@pytest.mark.parametrize("header", ["", "Bearer", "Basic dTpw", "r8_test"])
def test_no_key_is_refused(start: Start, header: str) -> None:
    server, _ = start()
    api = Api(server.origin, key="")
    if header:
        api.http.headers["Authorization"] = header
    reply = api.post()
    assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer")
    assert server.usage().creates_received == 1
    assert server.usage().creates_accepted == 0
    api.close()


def test_only_accepted_keys_pass_where_they_are_named(start: Start) -> None:
    server, _ = start(accepted_keys={"right"})
    for key, status in (("right", 201), ("wrong", 401)):
        api = Api(server.origin, key=key)
        assert api.post().status_code == status
        api.close()


def test_every_call_but_a_download_needs_a_key(start: Start) -> None:
    server, api = start()
    done = api.finished()
    stranger = Api(server.origin, key="")
    assert stranger.fetch(done["id"]).status_code == 401
    assert stranger.cancel(done["id"]).status_code == 401
    assert stranger.http.get(stranger.path).status_code == 401
    assert stranger.download(done["output"][0]).status_code == 200
    stranger.close()


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({}, "input.prompt"),
        ({"prompt": " \n"}, "input.prompt"),
        ({"prompt": 7}, "input.prompt"),
        ({"prompt": "x", "num_outputs": 0}, "input.num_outputs"),
        ({"prompt": "x", "num_outputs": 5}, "input.num_outputs"),
        ({"prompt": "x", "num_outputs": 1.5}, "input.num_outputs"),
        ({"prompt": "x", "num_outputs": True}, "input.num_outputs"),
        ({"prompt": "x", "num_outputs": "2"}, "input.num_outputs"),
        ({"prompt": "x", "num_inference_steps": 13}, "input.num_inference_steps"),
        ({"prompt": "x", "output_quality": 101}, "input.output_quality"),
        ({"prompt": "x", "output_quality": -1}, "input.output_quality"),
        ({"prompt": "x", "prompt_strength": 1.01}, "input.prompt_strength"),
        ({"prompt": "x", "lora_scale": "high"}, "input.lora_scale"),
        ({"prompt": "x", "aspect_ratio": "0:1"}, "input.aspect_ratio"),
        ({"prompt": "x", "output_format": "gif"}, "input.output_format"),
        ({"prompt": "x", "seed": "seven"}, "input.seed"),
    ],
)
def test_values_out_of_range_are_refused_by_name(
    start: Start, sent: dict[str, Any], field: str
) -> None:
    server, api = start()
    reply = api.http.post(api.path, json={"version": VERSION, "input": sent})
    assert reply.status_code == 422
    assert [entry["field"] for entry in reply.json()["invalid_fields"]] == [field]
    assert field in reply.json()["detail"]
    assert server.usage().creates_accepted == 0


def test_all_wrong_values_are_named_at_once(start: Start) -> None:
    _, api = start()
    reply = api.post(7, num_outputs=9, aspect_ratio="x")
    assert len(reply.json()["invalid_fields"]) == 3


@pytest.mark.parametrize("version", ["", "latest", "a" * 63, "A" * 64, f"a:b:{VERSION}", 7, None])
def test_a_version_is_64_hex_digits(start: Start, version: object) -> None:
    _, api = start()
    reply = api.http.post(api.path, json={"version": version, "input": {"prompt": "x"}})
    assert reply.status_code == 422
    assert reply.json()["invalid_fields"][0]["field"] == "version"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object_is_a_bad_request(start: Start, body: bytes) -> None:
    _, api = start()
    assert api.http.post(api.path, content=body).status_code == 400


@pytest.mark.parametrize("text", ["", "soon", "-1", "h", "9" * 5000])
def test_an_unreadable_cancel_after_is_a_bad_request(start: Start, text: str) -> None:
    _, api = start()
    assert api.post(headers={"Cancel-After": text}).status_code == 400


def test_errors_come_in_the_list_form_too(start: Start) -> None:
    _, api = start(error_shape="cog")
    detail = api.post("x", num_outputs=9).json()["detail"]
    assert detail[0]["loc"] == ["body", "input", "num_outputs"]
    assert set(detail[0]) == {"loc", "msg", "type"}


def test_errors_come_in_the_aggregators_form_too(start: Start) -> None:
    server, _ = start(error_shape="object")
    api = Api(server.origin, key="")
    reply = api.post()
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "401")
    api.close()


def test_a_used_up_credit_is_402_and_charges_nothing_more(start: Start) -> None:
    server, api = start(credit_usd=0.009, usd_per_image=0.003)
    statuses = [api.post(seed=number, num_outputs=2).status_code for number in range(3)]
    assert statuses == [201, 402, 402]
    assert api.post(seed=9).status_code == 201  # one image is still covered
    assert server.usage().charged_usd == pytest.approx(0.009)


def test_little_credit_means_six_creates_a_minute(start: Start, clock: ManualClock) -> None:
    _, api = start(credit_usd=1, low_credit_usd=5)
    assert [api.post(seed=number).status_code for number in range(2)] == [201, 429]
    clock.advance(10)
    assert api.post().status_code == 201


def test_creates_and_other_calls_have_buckets_of_their_own(
    start: Start, clock: ManualClock
) -> None:
    _, api = start(creates_per_minute=60, calls_per_minute=120, burst_seconds=2)
    assert [api.post(seed=n).status_code for n in range(3)] == [201, 201, 429]
    assert [api.http.get(api.path).status_code for _ in range(5)] == [200] * 4 + [429]
    clock.advance(1)
    assert [api.post(seed=n).status_code for n in range(2)] == [201, 429]


def test_each_key_has_its_own_bucket(start: Start) -> None:
    server, api = start(creates_per_minute=1)
    other = Api(server.origin, key="another")
    assert [api.post().status_code for _ in range(2)] == [201, 429]
    assert other.post().status_code == 201
    other.close()


def test_limits_can_be_switched_off(start: Start) -> None:
    _, api = start(creates_per_minute=None, calls_per_minute=None, burst_seconds=0.001)
    assert {api.post(seed=number).status_code for number in range(20)} == {201}


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        ("header", {"retry-after": "30"}),
        ("body", {"retry_after": 30}),
        ("detail", {"detail": "30"}),
        ("reset", {"ratelimit-reset": "30"}),
        ("none", {}),
        (
            "all",
            {"retry-after": "30", "retry_after": 30, "detail": "30", "ratelimit-reset": "30"},
        ),
    ],
)
def test_a_429_says_how_long_to_wait_in_each_form(
    start: Start, hint: str, said: dict[str, object]
) -> None:
    _, api = start(creates_per_minute=2, burst_seconds=1, rate_hint=hint)
    api.post()
    reply = api.post()
    assert reply.status_code == 429
    found = {name: reply.headers.get(name) for name in ("retry-after", "ratelimit-reset")}
    found["retry_after"] = reply.json().get("retry_after")
    in_words = re.search(r"resets in ~(\d+)s", reply.json()["detail"])
    found["detail"] = in_words and in_words.group(1)
    assert {name: value for name, value in found.items() if value is not None} == said


def test_a_429_can_name_a_date(start: Start, clock: ManualClock) -> None:
    _, api = start(creates_per_minute=2, burst_seconds=1, rate_hint="date")
    api.post()
    moment = parsedate_to_datetime(api.post().headers["retry-after"])
    assert moment.timestamp() == clock.now + 30


def test_the_key_can_stop_working_midway(start: Start) -> None:
    server, api = start(FaultPlan(unauthorized_after=2))
    made = [api.post(seed=number) for number in range(3)]
    assert [reply.status_code for reply in made] == [201, 201, 401]
    assert api.fetch(made[0].json()["id"]).status_code == 401
    assert server.usage().creates_accepted == 2


def test_the_credit_can_end_midway_while_polls_go_on(start: Start) -> None:
    _, api = start(FaultPlan(payment_required_after=1))
    made = [api.post(seed=number) for number in range(2)]
    assert [reply.status_code for reply in made] == [201, 402]
    assert api.fetch(made[0].json()["id"]).status_code == 200


def test_a_prompt_with_a_lone_surrogate_is_refused(start: Start) -> None:
    _, api = start()
    body = json.dumps({"version": VERSION, "input": {"prompt": "x\ud800"}})
    assert api.http.post(api.path, content=body).status_code == 422


def test_unknown_paths_are_not_found_and_wrong_methods_not_allowed(start: Start) -> None:
    server, api = start()
    assert api.http.get("/v2/predictions").status_code == 404
    assert api.http.post("/v1/models").status_code == 404
    assert api.http.get(f"{api.path}/").status_code == 404
    assert api.http.put(api.path).status_code == 405
    assert server.usage().requests_by_route["POST /v1/models"] == 1
