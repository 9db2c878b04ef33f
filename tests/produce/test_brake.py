"""Creates stop after the same failure several times in a row, and pause while a try may help."""

import anyio
import pytest

from flux_pipeline.outcomes import Stopped
from flux_pipeline.produce.brake import MOST_IN_A_ROW, Brake, kind_of
from flux_pipeline.produce.report import Stop

pytestmark = pytest.mark.anyio
FETCHED = "a picture could not be fetched"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def fail(brake: Brake, times: int, *, first: int = 0) -> None:
    for number in range(first, first + times):
        brake.note_failure(FETCHED, f"output 0: cdn{number}.example: answered 404")


async def is_waiting(brake: Brake) -> bool:
    """Whether creates pause now."""
    with anyio.move_on_after(0) as scope:
        await brake.wait()
    return scope.cancelled_caught


def test_failures_that_differ_only_by_an_id_are_of_one_kind() -> None:
    ids = ("q5z8k1c2d3", "6a1f0c9e-77aa-4a3e-9d3b-0c0ffee0b0b0")
    assert len({kind_of(f"prediction {each} failed: CUDA out of memory") for each in ids}) == 1
    assert kind_of("answered 404") != kind_of("answered 403")


def test_the_same_failure_five_times_in_a_row_stops_creates() -> None:
    brake = Brake()
    fail(brake, MOST_IN_A_ROW - 1)
    assert brake.stopped is None

    fail(brake, 1, first=MOST_IN_A_ROW)

    assert brake.stopped is not None
    assert brake.stopped.kind == Stop.FAILURES
    assert "5 times in a row a picture could not be fetched" in brake.stopped.reason
    assert "cdn5.example: answered 404" in brake.stopped.reason


def test_a_success_in_between_begins_the_count_anew() -> None:
    brake = Brake()
    for _ in range(3):
        fail(brake, MOST_IN_A_ROW - 1)
        brake.note_stored()

    assert brake.stopped is None


def test_failures_of_several_kinds_are_counted_apart() -> None:
    brake = Brake()
    for code in (404, 403):
        for _ in range(MOST_IN_A_ROW - 1):
            brake.note_failure(FETCHED, f"answered {code}")

    assert brake.stopped is None


def test_the_first_reason_stands() -> None:
    brake = Brake()
    brake.stop(Stop.KEY, "answered 401")

    assert brake.stop(Stop.STORE, "no space") == Stopped(Stop.KEY, "answered 401")


async def test_one_refusal_of_the_store_pauses_creates_until_an_image_is_stored() -> None:
    brake = Brake()
    brake.note_store_failure("one", "no space", is_last_try=False)
    assert await is_waiting(brake)
    assert brake.stopped is None

    async with anyio.create_task_group() as group:
        group.start_soon(brake.wait)
        await anyio.lowlevel.checkpoint()
        brake.note_stored()  # by any request: what waits here goes on


async def test_the_stores_last_refusal_stops_creates_and_lets_go_what_waits() -> None:
    brake = Brake()
    brake.note_store_failure("one", "no space", is_last_try=False)
    async with anyio.create_task_group() as group:
        group.start_soon(brake.wait)
        await anyio.lowlevel.checkpoint()
        brake.note_store_failure("one", "no space", is_last_try=True)

    assert brake.stopped is not None
    assert brake.stopped.kind == Stop.STORE
    assert "nothing more is created while the store fails: no space" in brake.stopped.reason


async def test_outputs_that_are_late_pause_creates_only_where_several_are() -> None:
    brake = Brake()
    for number in range(MOST_IN_A_ROW - 1):
        brake.note_delay(f"request {number}")
        brake.note_delay(f"request {number}")
    assert not await is_waiting(brake)

    brake.note_delay("one more")

    assert await is_waiting(brake)


async def test_what_has_ended_holds_up_no_create() -> None:
    """However it has ended: another worker may have taken it over."""
    brake = Brake()
    brake.note_store_failure("one", "no space", is_last_try=False)
    for number in range(MOST_IN_A_ROW):
        brake.note_delay(f"request {number}")
    async with anyio.create_task_group() as group:
        group.start_soon(brake.wait)
        await anyio.lowlevel.checkpoint()
        brake.forget("one")
        brake.forget("request 0")

    assert not await is_waiting(brake)
