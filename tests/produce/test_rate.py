"""A provider's rate is used up, whatever predictions take, without anybody setting a number.

On a virtual clock, so that every figure is the same in every run: see ``virtual_run``. The same is
measured over sockets by ``python -m benchmarks.rate``.
"""

import asyncio

import pytest

from flux_pipeline.produce.in_flight import LONG_WAIT
from tests.produce.virtual_run import Model, VirtualProvider, run_workers
from tests.provider.virtual_loop import inline, run_virtually


@pytest.fixture(autouse=True)
def without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio, "to_thread", inline)


def make(
    rate: float,
    models: dict[str, Model],
    requests: int,
    *,
    workers: int = 1,
    cap: int | None = None,
    asked_rate: float | None = None,
    downloads: int = 64,
    download_seconds: float = 0.3,
    calls: float | None = None,
) -> VirtualProvider:
    provider = VirtualProvider(
        rate,
        models,
        calls_per_second=calls or max(50.0, 5 * rate),
        download_seconds=download_seconds,
    )
    run_virtually(
        run_workers(
            provider,
            requests,
            workers=workers,
            cap=cap,
            asked_rate=asked_rate,
            downloads=downloads,
        )
    )
    assert len(provider.waits) == requests
    return provider


@pytest.mark.parametrize(
    ("rate", "seconds", "requests", "workers"),
    [
        (1, 0.2, 150, 1),
        (1, 10, 60, 1),
        (1, 60, 200, 1),
        (10, 0.2, 300, 1),
        (10, 2.5, 300, 4),
        (10, 10, 300, 2),
        (10, 60, 700, 1),
        (50, 0.2, 600, 2),
        (50, 10, 800, 4),
        (50, 60, 3200, 1),
    ],
)
def test_the_rate_is_used_up_with_few_polls_and_without_refusals(
    rate: float, seconds: float, requests: int, workers: int
) -> None:
    provider = make(rate, {"m": Model(seconds)}, requests, workers=workers)
    assert provider.share_used() >= 0.98
    assert provider.polls <= 2.5
    assert provider.refused <= 0.01


@pytest.mark.parametrize("spread", [0.0, 0.5])
@pytest.mark.parametrize("seconds", [0.2, 10, 60])
def test_polls_stay_few_however_much_the_times_of_predictions_differ(
    seconds: float, spread: float
) -> None:
    provider = make(10, {"m": Model(seconds, spread)}, 600)
    assert provider.polls <= 2.5
    assert provider.share_used() >= 0.98


def test_a_slow_model_leaves_the_rate_to_a_fast_one_and_has_its_own() -> None:
    models = {"fast": Model(0.2, cold=0.0), "slow": Model(60, cold=0.0)}
    provider = make(10, models, 800)
    assert provider.share_used() >= 0.98
    assert provider.share_used("fast") >= 0.49
    assert provider.share_used("slow") >= 0.49
    assert provider.polls <= 2.5
    assert sum(wait < 3 for wait in provider.waits) >= 390


def test_a_cap_that_is_set_holds() -> None:
    provider = make(10, {"m": Model(10, cold=0.0)}, 100, cap=20)
    assert provider.most_under_way == 20
    assert provider.share_used() < 0.25


@pytest.mark.parametrize(("machines", "seconds"), [(13, 2.5), (10, 10), (1, 2.5)])
def test_where_the_provider_makes_fewer_than_the_rate_none_waits_for_very_long(
    machines: int, seconds: float
) -> None:
    """13 machines make 5 a second, 10 one, one 0.4: in the end each would be given up."""
    pace = machines / seconds
    provider = make(10, {"m": Model(seconds, cold=0.0, machines=machines)}, int(300 * pace))
    assert max(provider.waits) <= 2 * LONG_WAIT
    assert provider.most_under_way >= 60
    times = provider.accepted_at["m"]
    made = len(times) / (times[-1] - times[0] + max(provider.waits))
    assert made >= 0.6 * pace  # its machines are kept busy


def test_pictures_that_come_down_slowly_hold_creates_back() -> None:
    provider = make(10, {"m": Model(2.5, cold=0.0)}, 1000, downloads=4, download_seconds=2)
    assert max(provider.waits) <= 2 * LONG_WAIT


def test_a_rate_that_is_set_too_high_is_found_out_and_ends_all_requests() -> None:
    provider = make(5, {"m": Model(2.5)}, 500, asked_rate=10, calls=50)
    assert provider.share_used() >= 0.9


def test_a_limit_of_calls_as_low_as_that_of_creates_costs_polls_and_no_refusals() -> None:
    provider = make(50, {"m": Model(2.5)}, 1000, calls=50)
    assert provider.polls <= 1.6
    assert provider.refused <= 0.01
