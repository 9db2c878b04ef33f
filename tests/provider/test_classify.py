"""The whole table of what an answer means; a mistake here is paid for."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.outcomes import (
    Accepted,
    AccessDenied,
    Ambiguous,
    Gone,
    NeverSent,
    Polled,
    PollFailed,
    Refused,
    Rejected,
    Throttled,
)
from flux_pipeline.prediction import Status
from flux_pipeline.provider.classify import (
    DENIALS,
    REFUSED_INPUT,
    REJECTIONS,
    THROTTLED,
    Answer,
    ResponseClassifier,
)
from flux_pipeline.provider.http import Reply
from tests.provider.samples import ID, KEY, prediction_fields

CLASSIFIER = ResponseClassifier("api.example", (KEY,), lambda: 1_000_000.0)
ERROR = {"title": "Title", "detail": "what is wrong", "status": 0}
PREDICTION = prediction_fields()


def reply(status: int, body: Any = b"", **headers: str) -> Reply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw)


def kind(answer: Answer) -> str:
    return type(CLASSIFIER.create(answer, seed=7)).__name__


EXPECTED_CODES = {
    **dict.fromkeys((400, 404, 405, 406, 407, 410, 411, 413, 414, 415, 417), "Rejected"),
    **dict.fromkeys((301, 307, 308, 421, 426, 431, 451), "Rejected"),
    422: "Refused",
    **dict.fromkeys((401, 402, 403), "AccessDenied"),
    429: "Throttled",
}


@pytest.mark.parametrize("body", [b"", b"<html>", ERROR, PREDICTION, {"data": [{"url": "x"}]}])
def test_every_error_code_of_a_create_has_its_class_whatever_the_body(body: Any) -> None:
    for status in (*range(100, 200), *range(300, 600)):
        assert kind(reply(status, body)) == EXPECTED_CODES.get(status, "Ambiguous"), status


FIELD_PROBLEMS: list[dict[str, Any]] = [
    {"detail": [{"loc": ["body", "input", "seed"], "msg": "not an integer"}]},
    {"invalid_fields": [{"field": "input.num_outputs", "description": "at most 4"}]},
    {"error": {"message": "at most 4", "param": "input.num_outputs", "code": "400"}},
]
CALL_PROBLEMS: list[dict[str, Any]] = [
    {"detail": [{"loc": ["body", "version"], "msg": "no such version"}]},
    {"detail": [{"loc": ["body"], "msg": "field required"}]},
    {"detail": [{"loc": ["body", "input"], "msg": "field required"}]},
    {"invalid_fields": [{"field": "version", "description": "expected 64 hex digits"}]},
    {"error": {"message": "expected 64 hex digits", "param": "version", "code": "422"}},
    {"title": "Invalid version or not permitted", "detail": "The specified version does not exist"},
]


@pytest.mark.parametrize("status", [400, 404, 422])
def test_an_error_that_names_a_field_of_the_input_is_the_prompts(status: int) -> None:
    for body in FIELD_PROBLEMS:
        assert kind(reply(status, body)) == "Refused", body


@pytest.mark.parametrize("status", [400, 404, 422])
def test_an_error_that_names_anything_else_is_the_calls(status: int) -> None:
    for body in CALL_PROBLEMS:
        assert kind(reply(status, body)) == "Rejected", body


def test_a_422_that_says_no_more_is_the_prompts() -> None:
    bodies: list[Any] = [b"", b"<html>", ERROR, {"detail": "a poem about version control"}, {}]
    for body in bodies:
        assert kind(reply(422, body)) == "Refused", body


@pytest.mark.parametrize("status", sorted(REJECTIONS))
def test_what_is_rejected_says_what_to_check_and_blames_no_prompt(status: int) -> None:
    outcome = CLASSIFIER.create(reply(status, {"detail": "no"}))
    assert isinstance(outcome, Rejected)
    said, _, advice = outcome.detail.partition("; ")
    assert said == "no"
    assert advice
    assert "prompt" not in advice
    assert "input" not in advice
    if status in (301, 307, 308, 404, 405, 410, 421):
        assert advice.startswith("check FLUX_PROVIDER: the base URL with its prefix, without /v1;")
        assert "FLUX_ROUTE" in advice
    elif status in (413, 414, 431):
        assert "too large" in advice
    elif status != 407:
        assert "check FLUX_PROVIDER" in advice


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (PREDICTION, "Accepted"),
        ({"id": ID}, "Accepted"),
        ({"id": ID, "status": "some new word"}, "Accepted"),
        ({"id": ID, "status": "failed", "error": "it broke"}, "Accepted"),
        ({"id": ID, "data": []}, "Accepted"),
        ({"created": 1, "data": [{"url": "https://a.b/out-0.webp"}]}, "Accepted"),
        ({"created": 1, "data": [{"b64_json": "aGFsbG8="}]}, "Accepted"),
        ({"id": None, "data": [{"url": "https://a.b/x"}], "error": None}, "Accepted"),
        ({**PREDICTION, "data": [{"url": "https://a.b/x"}]}, "Accepted"),
        ({"error": {"message": "no", "type": "t", "param": None, "code": "c"}}, "Rejected"),
        ({"error": "no"}, "Rejected"),
        ({"error": {"message": "no", "code": 422}}, "Refused"),
        ({"error": {"message": "no", "code": "404"}}, "Rejected"),
        ({"error": {"message": "no", "code": 400}}, "Rejected"),
        ({"error": {"message": "no", "code": 410}}, "Rejected"),
        ({"error": {"message": "no", "param": "input.seed", "code": 400}}, "Refused"),
        ({"error": {"message": "no", "param": "input.seed"}}, "Refused"),
        ({"error": {"message": "upstream request timeout"}}, "Ambiguous"),
        ({"error": {"message": "no", "type": "server_error"}}, "Ambiguous"),
        ({"error": {"message": "no", "code": "do_request_failed"}}, "Ambiguous"),
        ({"error": "Internal error"}, "Ambiguous"),
        ({"error": "the worker timed out"}, "Ambiguous"),
        ({"error": {"message": "no", "code": 401}}, "AccessDenied"),
        ({"error": {"message": "no", "code": "insufficient_user_quota"}}, "AccessDenied"),
        ({"error": {"message": "no", "type": "authentication_error"}}, "AccessDenied"),
        ({"error": {"message": "slow", "code": "rate_limit_exceeded"}}, "Throttled"),
        ({"error": {"message": "slow", "code": 429}}, "Throttled"),
        ({"error": {"message": "upstream", "code": 504}}, "Ambiguous"),
        ({"error": {"message": "conflict", "code": "409"}}, "Ambiguous"),
        ({}, "Ambiguous"),
        ({"error": None}, "Ambiguous"),
        ({"status": "starting"}, "Ambiguous"),
        ({"data": []}, "Ambiguous"),
        ({"data": "soon"}, "Ambiguous"),
        ({"data": [{"url": 7}]}, "Ambiguous"),
        ({"status": "processing", "data": [{"url": "https://a.b/x"}]}, "Ambiguous"),
        ({**PREDICTION, "id": "a/../b"}, "Ambiguous"),
        ({**PREDICTION, "id": ".."}, "Ambiguous"),
        ({**PREDICTION, "id": "abc\n"}, "Ambiguous"),
        ({**PREDICTION, "id": "a" * 10_240}, "Ambiguous"),
        ({**PREDICTION, "id": ""}, "Ambiguous"),
        ({**PREDICTION, "id": 7}, "Accepted"),
        ({**PREDICTION, "id": "task.7:b"}, "Accepted"),
        ({**PREDICTION, "id": True}, "Ambiguous"),
        ({**PREDICTION, "id": "%2e%2e"}, "Ambiguous"),
        ({**PREDICTION, "id": "ａｂｃ"}, "Ambiguous"),
        ({"id": "a//b", "error": {"message": "no"}}, "Ambiguous"),
        (b"", "Ambiguous"),
        (b"<html>log in</html>", "Ambiguous"),
        (b"[]", "Ambiguous"),
        (b'"text"', "Ambiguous"),
        (b"null", "Ambiguous"),
        (json.dumps(PREDICTION).encode()[:-5], "Ambiguous"),
        (b"\xff\xfe\xff", "Ambiguous"),
        (b'{"id":' + b"[" * 100_000, "Ambiguous"),
        (b'{"error": {"message": "' + b"[" * 100, "Ambiguous"),
    ],
)
def test_every_shape_of_a_success_has_its_class(body: Any, expected: str) -> None:
    for status in (200, 201, 202, 203, 299):
        assert kind(reply(status, body)) == expected, status


def test_a_reply_that_was_not_read_is_ambiguous() -> None:
    answer = Reply(201, {"content-type": "application/json"}, unread="too large")
    assert CLASSIFIER.create(answer) == Ambiguous(
        "api.example: the reply was not read (201, application/json, too large)"
    )


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (httpx.ConnectError, "NeverSent"),
        (httpx.ConnectTimeout, "NeverSent"),
        (httpx.PoolTimeout, "NeverSent"),
        (httpx.ReadError, "Ambiguous"),
        (httpx.ReadTimeout, "Ambiguous"),
        (httpx.WriteError, "Ambiguous"),
        (httpx.WriteTimeout, "Ambiguous"),
        (httpx.CloseError, "Ambiguous"),
        (httpx.ProxyError, "Ambiguous"),
        (httpx.RemoteProtocolError, "Ambiguous"),
        (httpx.LocalProtocolError, "Ambiguous"),
        (httpx.UnsupportedProtocol, "Ambiguous"),
        (httpx.DecodingError, "Ambiguous"),
        (httpx.TooManyRedirects, "Ambiguous"),
    ],
)
def test_every_transport_error_has_its_class(error: type[httpx.HTTPError], expected: str) -> None:
    answer = error("words")
    assert kind(answer) == expected
    assert type(CLASSIFIER.poll(answer, prediction_id=ID)).__name__ == "PollFailed"


def test_messages_say_host_cause_and_whether_it_was_sent() -> None:
    never = CLASSIFIER.create(httpx.ConnectError("Connection refused"))
    maybe = CLASSIFIER.create(httpx.ReadError("Connection reset by peer"))
    assert never == NeverSent("api.example: Connection refused; the request was not sent")
    assert maybe == Ambiguous(
        "api.example: Connection reset by peer; the request may have been sent"
    )


def test_a_reply_with_nan_keeps_its_id() -> None:
    outcome = CLASSIFIER.create(reply(201, b'{"id": "abc", "status": "starting", "metrics": NaN}'))
    assert isinstance(outcome, Accepted)
    assert outcome.prediction.id == "abc"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ({"seed": 7}, "Accepted"),
        ({"seed": 7.0}, "Accepted"),
        ({"seed": "7"}, "Accepted"),
        ({"seed": None}, "Accepted"),
        ({}, "Accepted"),
        (None, "Accepted"),
        ({"seed": 8}, "Ambiguous"),
    ],
)
def test_a_reply_for_another_seed_is_not_taken_as_ours(shown: Any, expected: str) -> None:
    assert kind(reply(201, prediction_fields(input=shown))) == expected


def test_details_are_redacted_and_short() -> None:
    outcome = CLASSIFIER.create(reply(401, {"detail": f"bad key {KEY}\n" + "x" * 1000}))
    assert isinstance(outcome, AccessDenied)
    assert outcome.detail.startswith("bad key REDACTED xxx")
    assert len(outcome.detail) == 300
    assert CLASSIFIER.create(reply(422, {"detail": KEY})) == Refused(422, "REDACTED")


def test_a_throttled_create_carries_the_hint() -> None:
    assert CLASSIFIER.create(reply(429, {"retry_after": 12})) == Throttled(12.0)
    assert CLASSIFIER.create(reply(429)) == Throttled(0.0)


@settings(deadline=None, max_examples=60)
@given(status=st.integers(100, 599), body=st.binary(max_size=200))
def test_nothing_but_the_known_codes_is_ever_called_unpaid(status: int, body: bytes) -> None:
    outcome = CLASSIFIER.create(reply(status, body))
    if not isinstance(outcome, (Accepted, Ambiguous)):
        assert status in REJECTIONS | DENIALS | {REFUSED_INPUT, THROTTLED}


_LEAVES = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8)
_JSON = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)
_FIELDS = st.fixed_dictionaries(
    {},
    optional={
        name: _JSON | st.sampled_from(["abc", "succeeded", ["https://a.b/out-1.webp"]])
        for name in (
            *("id", "status", "output", "data", "error", "input", "logs", "metrics", "model"),
            *("version", "created", "created_at", "completed_at", "data_removed", "detail"),
        )
    },
)


@settings(deadline=None, max_examples=30)
@given(status=st.sampled_from([200, 201, 400, 404, 422, 429, 500]), body=_FIELDS)
def test_no_json_object_makes_the_classifier_raise(status: int, body: dict[str, Any]) -> None:
    answer = reply(status, json.dumps(body).encode())
    created = CLASSIFIER.create(answer, seed=7)
    CLASSIFIER.poll(answer, prediction_id="abc")
    if status == 200 and body.get("id") is not None:
        assert isinstance(created, (Accepted, Ambiguous))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (reply(200, b"<html>"), "PollFailed"),
        (reply(200, b""), "PollFailed"),
        (reply(200, {}), "PollFailed"),
        (reply(200, prediction_fields(id="another")), "PollFailed"),
        (reply(200, {"error": {"message": "upstream"}}), "PollFailed"),
        (reply(200, {"error": {"message": "no", "code": 402}}), "AccessDenied"),
        (reply(200, {"error": {"message": "no", "code": 404}}), "Gone"),
        (reply(401, ERROR), "AccessDenied"),
        (reply(402, ERROR), "AccessDenied"),
        (reply(403, ERROR), "AccessDenied"),
        (reply(404, ERROR), "Gone"),
        (reply(410, ERROR), "Gone"),
        (reply(301), "PollFailed"),
        (reply(400), "PollFailed"),
        (reply(408), "PollFailed"),
        (reply(425), "PollFailed"),
        (reply(429), "PollFailed"),
        (reply(500), "PollFailed"),
        (reply(503, PREDICTION), "PollFailed"),
    ],
)
def test_every_answer_to_a_poll_has_its_class(answer: Reply, expected: str) -> None:
    assert type(CLASSIFIER.poll(answer, prediction_id=ID)).__name__ == expected


def test_a_poll_gives_the_prediction_and_its_id() -> None:
    outcome = CLASSIFIER.poll(
        reply(200, prediction_fields(status="succeeded", output=["https://a.b/out-0.webp"])),
        prediction_id=ID,
    )
    assert isinstance(outcome, Polled)
    assert outcome.prediction.status is Status.SUCCEEDED
    bare = CLASSIFIER.poll(reply(200, {"data": [{"url": "https://a.b/x"}]}), prediction_id=ID)
    assert isinstance(bare, Polled)
    assert bare.prediction.id == ID


def test_a_poll_that_is_throttled_carries_the_hint() -> None:
    assert CLASSIFIER.poll(reply(429, b"", retry_after="9"), prediction_id=ID) == PollFailed(
        "api.example: answered 429: 429, no type, 0 bytes", 9.0
    )


def test_what_is_gone_says_why() -> None:
    assert CLASSIFIER.poll(reply(404, {"detail": "not found"}), prediction_id=ID) == Gone(
        "api.example: answered 404: not found"
    )
