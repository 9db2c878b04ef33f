"""Error replies: their text on one line, the code they stand for, and the wait of a 429."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.provider.classify import error_code, error_text, retry_after


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"detail": "Invalid version", "status": 422}, "Invalid version"),
        ({"title": "Unauthenticated", "detail": "No token"}, "Unauthenticated; No token"),
        (
            {"detail": [{"loc": ["body", "input", "seed"], "msg": "not an integer", "type": "t"}]},
            "body.input.seed: not an integer",
        ),
        (
            {
                "title": "Input validation failed",
                "invalid_fields": [
                    {"field": "input.num_outputs", "type": "number_lte", "description": "at most 4"}
                ],
            },
            "Input validation failed; input.num_outputs: at most 4",
        ),
        (
            {"error": {"message": "no credit", "type": "t", "param": None, "code": "c"}},
            "no credit",
        ),
        ({"error": "no"}, "no"),
        ({"message": "Not found"}, "Not found"),
        ({"detail": [{"msg": "alone"}, "text", None, {}]}, "alone"),
        ({"detail": {"odd": 1}, "title": 7}, ""),
        ({}, ""),
        ([], ""),
        (None, ""),
    ],
)
def test_texts_of_errors(body: Any, text: str) -> None:
    assert error_text(body) == text


def test_texts_are_short_and_hold_no_key() -> None:
    text = error_text({"detail": "my-key " + "x" * 1000}, "my-key")
    assert text.startswith("REDACTED xxx")
    assert len(text) == 300


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"code": 402}, 402),
        ({"code": "402"}, 402),
        ({"code": None, "status": 503}, 503),
        ({"code": "insufficient_quota"}, 402),
        ({"code": "Invalid_API_Key"}, 401),
        ({"type": "rate_limit_error"}, 429),
        ({"code": 200}, 200),
        ({"code": 1042, "type": "odd"}, 200),
        ({"code": "9" * 50}, 200),
        ({"code": True}, 200),
        ({"code": [402]}, 200),
        ("text", 200),
        (None, 200),
    ],
)
def test_an_error_object_may_carry_its_own_code(error: Any, code: int) -> None:
    assert error_code({"error": error}, 200) == code


NOW = 1_753_779_490.0  # Tue, 29 Jul 2025 08:58:10 GMT
SOON = "Tue, 29 Jul 2025 08:58:40 GMT"


def hint(headers: dict[str, str] | None = None, body: Any = None) -> float:
    return retry_after(headers or {}, body, now=NOW)


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({}, None, 0),
        ({}, [], 0),
        ({"retry-after": "7"}, None, 7),
        ({"retry-after": " 7.5 "}, None, 7.5),
        ({"retry-after": "86400"}, None, 60),
        ({"retry-after": "-3"}, None, 0),
        ({"retry-after": SOON}, None, 30),
        ({"retry-after": "Tue, 29 Jul 2025 08:00:00 GMT"}, None, 0),
        ({"retry-after": SOON, "date": "Tue, 29 Jul 2025 08:58:35 GMT"}, None, 5),
        ({"retry-after": "soon"}, {"retry_after": 4}, 4),
        ({"retry-after": "nan"}, {"retry_after": 4}, 4),
        ({}, {"retry_after": 4}, 4),
        ({}, {"retry_after": "4"}, 4),
        ({}, {"retry_after": True}, 0),
        ({}, {"retry_after": None, "detail": "throttled; resets in ~30s."}, 30),
        ({}, {"detail": "Your rate limit resets in ~0.5s"}, 0.5),
        ({}, {"detail": "resets in 250ms"}, 0.25),
        ({}, {"detail": "RESETS IN ~ 9 s"}, 9),
        ({}, {"detail": "resets in ~1m"}, 60),
        ({}, {"detail": [{"msg": "resets in ~9s"}]}, 0),
        ({"ratelimit-reset": "12"}, {"detail": "too fast"}, 12),
        ({"ratelimit-reset": str(NOW + 9)}, None, 9),
        ({"ratelimit-reset": "1e400"}, None, 0),
        ({"ratelimit-reset": "12"}, {"retry_after": 3}, 3),
        ({"retry-after": "1", "ratelimit-reset": "12"}, {"retry_after": 3}, 1),
    ],
)
def test_hints_are_read_in_their_order(headers: dict[str, str], body: Any, seconds: float) -> None:
    assert hint(headers, body) == pytest.approx(seconds)


@settings(deadline=None, max_examples=60)
@given(header=st.text(), date=st.text(), reset=st.text(), detail=st.text())
def test_a_hint_is_always_between_nothing_and_a_minute(
    header: str, date: str, reset: str, detail: str
) -> None:
    headers = {"retry-after": header, "date": date, "ratelimit-reset": reset}
    assert 0 <= hint(headers, {"detail": detail}) <= 60


@settings(deadline=None, max_examples=60)
@given(st.none() | st.booleans() | st.integers() | st.floats() | st.text())
def test_a_body_hint_is_always_between_nothing_and_a_minute(value: object) -> None:
    assert 0 <= hint({}, {"retry_after": value}) <= 60
