"""How many requests are at one stage at once, and that none waits for another for ever."""

from typing import Any

import anyio

from flux_pipeline.produce import effects as fx
from flux_pipeline.produce.bounds import PREPARED, SENDING, Bounds, Place
from flux_pipeline.produce.in_flight import InFlight
from tests.provider.virtual_loop import run_virtually

ANY: Any = None
PREPARE = (fx.FindStored(), fx.PrepareInput(), fx.AwaitPermit(), fx.ClaimAttempt(0))
SEND = fx.Send(ANY, 0.0)
WAIT = fx.AwaitPoll(0.0, 0)


def bounds() -> Bounds:
    return Bounds(InFlight(lambda _model: 0.0))


async def enter(bounds: Bounds, name: str) -> Place:
    await bounds.preparing.acquire()
    return Place(bounds, "m", name)


async def advance(place: Place, *effects: fx.Effect) -> None:
    for effect in effects:
        await place.make_room(effect)


def test_what_is_sent_makes_room_for_the_next_to_be_prepared_and_what_is_accepted_for_sends() -> (
    None
):
    async def main() -> list[tuple[int, int, int]]:
        limits, seen = bounds(), []
        place = await enter(limits, "a")

        def look() -> None:
            free = PREPARED - limits.preparing.value, SENDING - limits.sending.value
            seen.append((*free, len(limits.in_flight)))

        await advance(place, *PREPARE)
        look()
        await advance(place, SEND)
        look()
        await advance(place, WAIT)
        look()
        place.leave()
        look()
        return seen

    assert run_virtually(main()) == [(1, 1, 0), (0, 1, 1), (0, 0, 1), (0, 0, 0)]


def test_creates_under_way_are_bounded_where_answers_take_their_time() -> None:
    async def main() -> tuple[int, int]:
        limits, sent = bounds(), 0

        async def send(number: int) -> None:
            nonlocal sent
            place = await enter(limits, str(number))
            await advance(place, *PREPARE, SEND)
            sent += 1
            await anyio.sleep(100)
            await advance(place, WAIT)
            place.leave()

        async with anyio.create_task_group() as group:
            for number in range(SENDING + 20):
                group.start_soon(send, number)
            await anyio.sleep(50)
            first = sent
        return first, sent

    assert run_virtually(main()) == (SENDING, SENDING + 20)


def test_refused_creates_that_are_all_sent_again_get_their_turns() -> None:
    """Those that were refused hold a place of creates, and need one to be prepared again."""

    async def main() -> int:
        limits, ended = bounds(), 0

        async def try_thrice(number: int) -> None:
            nonlocal ended
            place = await enter(limits, str(number))
            for _ in range(3):
                await advance(place, *PREPARE, SEND)
                await anyio.sleep(1)  # 429
            await advance(place, WAIT)
            place.leave()
            ended += 1

        async with anyio.create_task_group() as group:
            for number in range(1000):
                group.start_soon(try_thrice, number)
        return ended

    assert run_virtually(main()) == 1000


def test_a_cap_counts_requests_at_any_stage() -> None:
    async def main() -> int:
        limits = bounds()
        limits.cap = anyio.Semaphore(2)
        await limits.cap.acquire()
        place = await enter(limits, "a")
        await advance(place, *PREPARE, SEND, WAIT)
        used = limits.cap.value
        place.leave()
        return used + 10 * limits.cap.value

    assert run_virtually(main()) == 21
