"""Error bodies of every provider, as one line for a person."""

from typing import Any

import pytest

from flux_pipeline.provider.classify import error_code, error_text


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
