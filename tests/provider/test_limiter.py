"""Permits: even, whole, shared, and slower after a refusal. Hours pass in milliseconds."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest

from flux_pipeline.provider.limiter import Limiter, MemoryRates
from flux_pipeline.rate_limit import Grant, Kind
from tests.provider.virtual_loop import inline, run_virtually


@pytest.fixture(autouse=True)
def without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio, "to_thread", inline)


class Counting(MemoryRates):
    """Counts how often the store is asked."""

    def __init__(self, per_minute: float, clock: Callable[[], float]) -> None:
        super().__init__({"create": per_minute, "call": per_minute}, clock=clock)
        self.reservations = 0
        self.pauses: list[float] = []

    def reserve(self, kind: Kind, count: int) -> Grant:
        self.reservations += 1
        return super().reserve(kind, count)

    def slow_down(self, kind: Kind, seconds: float) -> None:
        self.pauses.append(seconds)
        super().slow_down(kind, seconds)


def limiter(per_minute: float = 600) -> tuple[Limiter, Counting]:
    clock = asyncio.get_running_loop().time
    store = Counting(per_minute, clock)
    return Limiter(store, clock=clock), store


async def in_crowd(count: int, work: Callable[[], Awaitable[None]]) -> None:
    await asyncio.gather(*(work() for _ in range(count)))


def test_creates_are_spaced_evenly_and_the_store_is_asked_seldom() -> None:
    async def main() -> tuple[list[float], int]:
        limits, store = limiter()
        had: list[float] = []

        async def worker() -> None:
            had.extend([await limits.acquire("create") for _ in range(20)])

        await in_crowd(16, worker)
        return sorted(had), store.reservations

    had, reservations = run_virtually(main())
    gaps = [later - sooner for sooner, later in pairwise(had)]
    assert all(0.05 <= gap <= 0.15 for gap in gaps)
    assert had[-1] - had[0] == pytest.approx(319 * 0.1, rel=0.01)
    assert reservations <= 320 / 2 + 2


def test_calls_that_come_one_by_one_at_a_high_rate_share_reservations() -> None:
    async def main() -> int:
        limits, store = limiter(per_minute=600_000)
        for _ in range(1000):
            await limits.acquire("call")
        return store.reservations

    assert run_virtually(main()) < 20


def test_calls_that_keep_coming_far_below_the_rate_need_one_reservation_a_second() -> None:
    async def main() -> int:
        limits, store = limiter(per_minute=600_000)
        for _ in range(500):
            await limits.acquire("call")
            await asyncio.sleep(0.01)
        return store.reservations

    assert run_virtually(main()) <= 5 + 7  # the first ones double


def test_few_permits_are_kept_for_a_while_and_many_are_not() -> None:
    async def main() -> list[int]:
        limits, store = limiter(per_minute=60_000)  # a quarter of a second has 250
        asked: list[int] = []
        for _ in range(62):  # 32 are left of the last block, then
            await limits.acquire("call")
        for idle in (1.0, 10.0):
            await asyncio.sleep(idle)
            before = store.reservations
            await limits.acquire("call")
            asked.append(store.reservations - before)
        return asked

    assert run_virtually(main()) == [0, 1]


def test_permits_reserved_before_a_refusal_are_not_used_after_it() -> None:
    async def main() -> int:
        limits, store = limiter(per_minute=60_000)
        for _ in range(50):
            sent_at = await limits.acquire("call")
        await limits.slow_down("call", 0.1, sent_at=sent_at)
        before = store.reservations
        await limits.acquire("call")
        return store.reservations - before

    assert run_virtually(main()) == 1


def test_a_call_that_need_not_wait_goes_behind_those_that_do() -> None:
    async def main() -> list[str]:
        limits, _ = limiter(per_minute=6000)
        await limits.acquire("call")
        had: list[str] = []

        async def waiting(name: str) -> None:
            await limits.acquire("call")
            had.append(name)

        await asyncio.gather(*(waiting(name) for name in "abcdefgh"))
        return had

    assert run_virtually(main()) == list("abcdefgh")


def test_calls_that_come_one_by_one_at_a_low_rate_reserve_nothing_beforehand() -> None:
    async def main() -> float:
        limits, store = limiter(per_minute=600)
        for _ in range(20):
            await limits.acquire("call")
        return store.reserve("call", 1).wait

    assert run_virtually(main()) <= 0.11  # the place of the next permit


def test_the_rate_is_used_whole_and_no_minute_exceeds_it_though_timers_are_late() -> None:
    async def main() -> list[float]:
        chance = random.Random(1)  # noqa: S311 -- the same in every run
        clock = asyncio.get_running_loop().time

        async def late(seconds: float) -> None:
            await asyncio.sleep(seconds + chance.uniform(0, 0.02))

        limits = Limiter(Counting(600, clock), clock=clock, sleep=late)
        had: list[float] = []

        async def worker() -> None:
            while clock() < 1000 + 180:
                had.append(await limits.acquire("create"))
                await asyncio.sleep(chance.uniform(0.5, 3.0))

        await in_crowd(64, worker)
        return [each for each in had if each < 1180]

    had = run_virtually(main())
    assert len(had) >= 0.98 * 1800
    for place, start in enumerate(had):
        assert place + 600 >= len(had) or had[place + 600] >= start + 60


def test_a_store_that_takes_its_time_costs_no_permits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def slowly(function: Callable[..., Any], *args: Any) -> Any:
        await asyncio.sleep(0.08)
        return function(*args)

    monkeypatch.setattr(asyncio, "to_thread", slowly)

    async def main() -> int:
        limits, _ = limiter(per_minute=1200)
        clock = asyncio.get_running_loop().time
        had: list[float] = []

        async def worker() -> None:
            while clock() < 1060:
                had.append(await limits.acquire("create"))
                await asyncio.sleep(0.5)

        await in_crowd(16, worker)
        return len([each for each in had if each < 1060])

    assert run_virtually(main()) >= 0.98 * 1200


def test_several_loops_share_one_store() -> None:
    async def main() -> list[float]:
        clock = asyncio.get_running_loop().time
        store = Counting(600, clock)
        had: list[float] = []

        async def loop() -> None:
            limits = Limiter(store, clock=clock)
            had.extend([await limits.acquire("create") for _ in range(100)])

        await in_crowd(4, loop)
        return sorted(had)

    had = run_virtually(main())
    assert had[-1] - had[0] == pytest.approx(39.9, rel=0.02)


def test_kinds_don_t_wait_for_each_other() -> None:
    async def main() -> float:
        limits, _ = limiter(per_minute=1)
        await limits.acquire("create")
        return await limits.acquire("call")

    assert run_virtually(main()) == 1000.0


def test_a_refusal_stops_everybody_for_as_long_as_it_says() -> None:
    async def main() -> tuple[list[float], list[float]]:
        limits, store = limiter()
        sent_at = await limits.acquire("create")
        waiting = asyncio.gather(*(limits.acquire("create") for _ in range(5)))
        await asyncio.sleep(0.05)
        await limits.slow_down("create", 12.0, sent_at=sent_at)
        return sorted(await waiting), store.pauses

    had, pauses = run_virtually(main())
    assert had[0] >= 1012.0
    assert all(later - sooner >= 0.049 for sooner, later in pairwise(had))
    assert pauses == [12.0]


@pytest.mark.parametrize(("hint", "pause"), [(0.0, 1.0), (0.2, 0.2), (30.0, 30.0), (86400.0, 60.0)])
def test_a_hint_is_obeyed_a_missing_one_is_a_second_and_a_day_is_a_minute(
    hint: float, pause: float
) -> None:
    async def main() -> float:
        limits, _ = limiter()
        sent_at = await limits.acquire("create")
        await limits.slow_down("create", hint, sent_at=sent_at)
        return await limits.acquire("create")

    assert run_virtually(main()) == pytest.approx(1000 + pause, abs=0.15)


def test_refusals_of_what_was_under_way_count_once() -> None:
    async def main() -> list[float]:
        limits, store = limiter()
        sent = [await limits.acquire("create") for _ in range(5)]
        for sent_at in sent:
            await limits.slow_down("create", 2.0, sent_at=sent_at)
        await asyncio.sleep(5.0)
        await limits.slow_down("create", 2.0, sent_at=sent[0])
        return store.pauses

    assert run_virtually(main()) == [2.0]


def test_a_longer_hint_of_what_was_under_way_lengthens_the_pause() -> None:
    async def main() -> tuple[list[float], float]:
        limits, store = limiter()
        sent_at = await limits.acquire("create")
        await limits.slow_down("create", 2.0, sent_at=sent_at)
        await limits.slow_down("create", 9.0, sent_at=sent_at)
        return store.pauses, await limits.acquire("create")

    pauses, had = run_virtually(main())
    assert pauses == [2.0, 9.0]
    assert had >= 1009.0


def test_who_gives_up_waiting_leaves_the_others_in_order() -> None:
    async def main() -> tuple[list[str], float]:
        limits, _ = limiter()
        await limits.acquire("create")
        order: list[str] = []

        async def named(name: str) -> None:
            await limits.acquire("create")
            order.append(name)

        tasks = [asyncio.create_task(named(name)) for name in "abcd"]
        await asyncio.sleep(0.01)
        tasks[0].cancel()
        tasks[2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return order, asyncio.get_running_loop().time()

    order, now = run_virtually(main())
    assert order == ["b", "d"]
    assert now < 1000.5


def test_permits_nobody_waited_for_any_more_are_not_used_up_later() -> None:
    async def main() -> list[float]:
        limits, _ = limiter()
        await limits.acquire("create")
        tasks = [asyncio.create_task(limits.acquire("create")) for _ in range(3)]
        await asyncio.sleep(0.15)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(3600)
        return [await limits.acquire("create") for _ in range(3)]

    had = run_virtually(main())
    assert had[1] - had[0] >= 0.09
    assert had[2] - had[1] >= 0.09


def test_a_store_that_fails_is_heard_and_asked_again() -> None:
    class Broken(MemoryRates):
        broken = True

        def reserve(self, kind: Kind, count: int) -> Grant:
            if self.broken:
                raise OSError("no database")
            return super().reserve(kind, count)

    async def main() -> float:
        clock = asyncio.get_running_loop().time
        store = Broken({"create": 600}, clock=clock)
        limits = Limiter(store, clock=clock)
        with pytest.raises(OSError, match="no database"):
            await limits.acquire("create")
        store.broken = False
        return await limits.acquire("create")

    assert run_virtually(main()) == 1000.0
