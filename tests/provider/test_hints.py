"""How long a 429 asks us to wait, in every form that providers use."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.provider.classify import retry_after

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
