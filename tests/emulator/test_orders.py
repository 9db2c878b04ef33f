"""Headers of a create: how long to hold the reply, and when to give up."""

import pytest
from starlette.requests import Request

from flux_pipeline.emulator.requests import wait_seconds
from tests.emulator.api import ManualClock
from tests.emulator.conftest import Start


def request(**headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": raw})


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("wait", 60),
        ("wait=5", 5),
        ("wait = 5", 5),
        ("respond-async, wait=7", 7),
        ("wait=999", 60),
        ("wait=" + "9" * 400, 60),
        ("respond-async", 0),
        ("waiting", 0),
        ("", 0),
    ],
)
def test_prefer_wait_is_read_and_bounded(prefer: str, seconds: float) -> None:
    assert wait_seconds(request(prefer=prefer)) == seconds


def test_without_prefer_there_is_no_wait() -> None:
    assert wait_seconds(request()) == 0


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("1h1m1s", 3661)]
)
def test_cancel_after_counts_from_acceptance(
    start: Start, clock: ManualClock, text: str, seconds: float
) -> None:
    _, api = start(time_scale=1e6)
    made = api.post(headers={"Cancel-After": text}).json()["id"]
    clock.advance(seconds - 0.5)
    assert api.get(made)["status"] == "starting"
    clock.advance(0.5)
    assert api.get(made)["status"] == "aborted"
