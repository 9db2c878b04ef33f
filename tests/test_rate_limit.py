"""The arithmetic of the shared limit, against servers that refuse."""

import heapq
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.rate_limit import RateState, reserve, slow_down

START = 1_700_000_000.0


def test_permits_are_evenly_spaced_from_the_first_on() -> None:
    state, first = reserve(RateState(), per_minute=600, count=3, now=START)
    _, second = reserve(state, per_minute=600, count=1, now=START + 0.1)
    assert first.wait == 0.0
    assert first.interval == pytest.approx(0.1, rel=0.01)
    assert second.wait == pytest.approx(0.2, rel=0.01)


def test_permits_that_nobody_took_are_not_saved_up() -> None:
    state, _ = reserve(RateState(), per_minute=600, count=1, now=START)
    _, grant = reserve(state, per_minute=600, count=1, now=START + 3600)
    assert grant.wait == 0.0


@settings(deadline=None, max_examples=60)
@given(
    per_minute=st.floats(0.5, 6000),
    steps=st.lists(st.tuples(st.floats(0, 5), st.integers(1, 20)), max_size=60),
)
def test_no_minute_holds_more_than_the_rate(
    per_minute: float, steps: Sequence[tuple[float, int]]
) -> None:
    state, now, starts = RateState(), START, []
    for pause, count in steps:
        now += pause
        state, grant = reserve(state, per_minute=per_minute, count=count, now=now)
        if grant.wait > 100:  # nobody reserves that far ahead
            break
        starts += [now + grant.wait + place * grant.interval for place in range(count)]
    for place, start in enumerate(starts):
        in_a_minute = sum(start <= each < start + 60 for each in starts[place:])
        assert in_a_minute <= math.ceil(per_minute)


@settings(deadline=None, max_examples=60)
@given(
    state=st.builds(
        RateState,
        next_at=st.floats(START - 1e5, START + 1e5),
        share=st.floats(0.1, 1),
        slowed_at=st.just(0.0) | st.floats(START - 1e5, START + 1e5),
        paused_until=st.floats(START - 1e5, START + 1e5),
        granted=st.floats(0, 100),
    ),
    per_minute=st.floats(1, 6000),
    seconds=st.floats(0, 60),
)
def test_a_refusal_never_makes_anything_faster(
    state: RateState, per_minute: float, seconds: float
) -> None:
    slower = slow_down(state, seconds=seconds, now=START)
    _, before = reserve(state, per_minute=per_minute, count=1, now=START)
    _, after = reserve(slower, per_minute=per_minute, count=1, now=START)
    assert after.interval >= before.interval - 1e-9
    assert after.wait >= min(seconds, before.wait) - 1e-6
    assert 0.1 <= slower.share <= 1
    assert slower.next_at >= START + seconds - 1e-6


def test_refusals_within_a_pause_count_once() -> None:
    state = slow_down(RateState(), seconds=5, now=START)
    again = slow_down(state, seconds=8, now=START + 1)
    assert again.share == state.share
    assert again.slowed_at == state.slowed_at
    assert again.paused_until == START + 9


def test_a_refusal_among_many_permits_changes_nothing_but_the_pause() -> None:
    state, _ = reserve(RateState(), per_minute=600, count=60, now=START)
    state = slow_down(state, seconds=1, now=START + 6)
    assert state.share == 1.0
    assert state.paused_until == START + 7


def test_refusals_among_few_permits_widen_the_spacing_more_and_more() -> None:
    once = slow_down(RateState(), seconds=1, now=START)
    twice = slow_down(once, seconds=1, now=START + 4)
    assert once.share == pytest.approx(0.95)
    assert twice.share == pytest.approx(0.95 * 0.85, rel=0.01)


def test_what_was_learnt_is_forgotten_within_minutes() -> None:
    state = slow_down(RateState(), seconds=1, now=START)
    state = replace(state, share=0.1)
    intervals = [
        reserve(state, per_minute=600, count=1, now=START + after)[1].interval
        for after in (1, 60, 240, 480, 720)
    ]
    assert intervals == sorted(intervals, reverse=True)
    assert intervals[-1] == pytest.approx(0.1, rel=0.01)


def test_a_clock_set_back_by_an_hour_does_not_stop_anything_for_an_hour() -> None:
    state, _ = reserve(RateState(), per_minute=600, count=1, now=START + 3600)
    _, grant = reserve(state, per_minute=600, count=1, now=START)
    assert grant.wait < 130


@dataclass
class TokenBucket:
    """A provider's limit as a token bucket."""

    per_second: float
    burst: float
    tokens: float = 0.0
    at: float = START

    def take(self, now: float) -> bool:
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.per_second)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    @property
    def hint(self) -> float:
        return (1 - self.tokens) / self.per_second


@dataclass
class FixedWindow:
    """A provider's limit as a number a minute, counted from every full minute."""

    per_minute: int
    minute: int = 0
    used: int = 0
    hint: float = 0.0

    def take(self, now: float) -> bool:
        if int(now // 60) != self.minute:
            self.minute, self.used = int(now // 60), 0
        self.hint = 60 - now % 60
        self.used += 1
        return self.used <= self.per_minute


@dataclass
class RandomRefusals:
    """A provider that refuses now and then for no reason."""

    refused: float
    hint: float = 1.0
    chance: random.Random = field(
        default_factory=lambda: random.Random(3)  # noqa: S311 -- the same in every run
    )

    def take(self, _now: float) -> bool:
        return self.chance.random() >= self.refused


def simulate(
    server: TokenBucket | FixedWindow | RandomRefusals,
    *,
    per_minute: float,
    workers: int,
    seconds: float,
    seed: int = 1,
) -> list[tuple[float, bool]]:
    """Workers that share one state; every call arrives late by some ms and answers in 0.2 s."""
    chance = random.Random(seed)  # noqa: S311 -- the same in every run
    state, answers = RateState(), []
    arrivals: list[tuple[float, int]] = []
    asking = [(START, worker) for worker in range(workers)]
    heapq.heapify(asking)
    refusals: list[tuple[float, float]] = []
    while asking:
        now, worker = heapq.heappop(asking)
        while arrivals and arrivals[0][0] <= now:
            arrived, _ = heapq.heappop(arrivals)
            taken = server.take(arrived)
            answers.append((arrived, taken))
            if not taken:
                heapq.heappush(refusals, (arrived + 0.2, max(server.hint, 0.05)))
        while refusals and refusals[0][0] <= now:
            refused_at, hint = heapq.heappop(refusals)
            state = slow_down(state, seconds=hint, now=refused_at)
        if now > START + seconds:
            continue
        state, grant = reserve(state, per_minute=per_minute, count=1, now=now)
        due = now + grant.wait
        heapq.heappush(arrivals, (due + chance.uniform(0.001, 0.02), worker))
        heapq.heappush(asking, (max(due, now + 1e-4), worker))
    return answers


@pytest.mark.parametrize("workers", [1, 16])
@pytest.mark.parametrize(
    "server",
    [
        pytest.param(TokenBucket(10, 600, 600), id="bucket of a minute"),
        pytest.param(TokenBucket(10, 5, 5), id="small bucket"),
        pytest.param(FixedWindow(600), id="window"),
    ],
)
def test_a_limit_that_is_configured_right_is_used_and_never_exceeded(
    server: TokenBucket | FixedWindow, workers: int
) -> None:
    answers = simulate(replace(server), per_minute=600, workers=workers, seconds=600)
    assert sum(taken for _, taken in answers) >= 0.99 * 6000
    assert all(taken for _, taken in answers)


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("tokens", [0, 300])
def test_a_lower_limit_is_found_used_and_seldom_exceeded(tokens: float, workers: int) -> None:
    server = TokenBucket(5, 300, tokens=tokens)
    answers = simulate(server, per_minute=600, workers=workers, seconds=1320)
    settled = [taken for at, taken in answers if at > START + 120]
    assert sum(settled) >= 0.98 * 1200 * 5
    assert settled.count(False) / len(settled) <= 0.02


def test_a_lower_limit_by_the_minute_is_found_too() -> None:
    answers = simulate(FixedWindow(300), per_minute=600, workers=2, seconds=1860)
    settled = [taken for at, taken in answers if at > START + 60]
    assert sum(settled) >= 0.97 * 1800 * 5
    assert settled.count(False) / len(settled) <= 0.02


def test_a_limit_a_hundred_times_lower_is_kept_by_the_pauses() -> None:
    answers = simulate(TokenBucket(0.1, 1), per_minute=600, workers=2, seconds=1920)
    late = [taken for at, taken in answers if at > START + 120]
    assert sum(late) >= 0.95 * 1800 * 0.1


@pytest.mark.parametrize(("refused", "used"), [(0.01, 0.8), (0.05, 0.09)])
def test_refusals_without_a_reason_slow_down_and_never_stop(refused: float, used: float) -> None:
    answers = simulate(RandomRefusals(refused), per_minute=600, workers=2, seconds=1800)
    assert sum(taken for _, taken in answers) >= used * 18_000
