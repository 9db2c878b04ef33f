"""The shared limit: the same arithmetic for all who share a database."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline import rate_limit as arithmetic
from flux_pipeline.errors import LedgerError
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.ledger.sql import SqlLedger, SqlRates
from flux_pipeline.rate_limit import Kind, RateState, RateStore
from tests.ledger.attempts import Clock, wipe
from tests.servers.postgres import PostgresServer

PER_MINUTE: dict[Kind, float] = {"create": 600.0, "call": 3000.0}


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def opened(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    shared_clock: Clock,
) -> Iterator[SqlLedger]:
    url = f"sqlite:///{tmp_path_factory.mktemp('ledger')}/ledger.db"
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.create_database()
    with open_ledger(url, clock=shared_clock) as ledger:
        yield ledger


@pytest.fixture
def ledger(opened: SqlLedger, clock: Clock) -> SqlLedger:
    wipe(opened)
    return opened


def test_it_is_a_rate_store(ledger: SqlLedger) -> None:
    store: RateStore = SqlRates(ledger, PER_MINUTE)
    assert store.reserve("create", 1).wait == 0.0


def test_permits_are_spaced_over_all_users(ledger: SqlLedger) -> None:
    first, second = SqlRates(ledger, PER_MINUTE), SqlRates(ledger, PER_MINUTE)
    assert first.reserve("create", 10).wait == 0.0
    grant = second.reserve("create", 1)
    assert grant.wait == pytest.approx(1.0, rel=0.01)
    assert grant.interval == pytest.approx(0.1, rel=0.01)


def test_kinds_and_accounts_are_kept_apart(ledger: SqlLedger) -> None:
    SqlRates(ledger, PER_MINUTE).reserve("create", 100)
    assert SqlRates(ledger, PER_MINUTE).reserve("call", 1).wait == 0.0
    assert SqlRates(ledger, PER_MINUTE, account="other").reserve("create", 1).wait == 0.0


def test_a_refusal_slows_every_user_down(ledger: SqlLedger) -> None:
    first, second = SqlRates(ledger, PER_MINUTE), SqlRates(ledger, PER_MINUTE)
    before = first.reserve("create", 1).interval
    first.slow_down("create", 5.0)
    grant = second.reserve("create", 1)
    assert grant.wait == pytest.approx(5.0)
    assert grant.interval > before


def test_many_threads_never_share_a_permit(ledger: SqlLedger) -> None:
    rates = SqlRates(ledger, PER_MINUTE)
    with ThreadPoolExecutor(8) as pool:
        waits = sorted(
            grant.wait for grant in pool.map(lambda _: rates.reserve("create", 1), range(50))
        )
    steps = [later - earlier for earlier, later in pairwise(waits)]
    assert min(steps) == pytest.approx(0.1, rel=0.01)


moves = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.integers(1, 20)),
        st.tuples(st.just("slow"), st.floats(0, 60)),
        st.tuples(st.just("pass"), st.floats(0, 100)),
    ),
    max_size=8,
)


@given(moves=moves)
@settings(max_examples=15, deadline=None)
def test_the_database_forgets_nothing(
    moves: list[tuple[str, float]], opened: SqlLedger, shared_clock: Clock
) -> None:
    wipe(opened)
    stored, state = SqlRates(opened, PER_MINUTE), RateState()
    for move, amount in moves:
        if move == "pass":
            shared_clock.advance(amount)
        elif move == "slow":
            stored.slow_down("create", amount)
            state = arithmetic.slow_down(state, seconds=amount, now=shared_clock.now)
        else:
            answer = stored.reserve("create", int(amount))
            state, grant = arithmetic.reserve(
                state, per_minute=600.0, count=int(amount), now=shared_clock.now
            )
            assert answer == grant


def test_a_limit_starts_anew_on_another_clock(sqlite_url: str, clock: Clock) -> None:
    with open_ledger(sqlite_url, clock=clock) as ledger:
        SqlRates(ledger, PER_MINUTE).reserve("create", 1000)
        with ledger.transaction() as tx:
            tx.connection.exec_driver_sql("UPDATE flux_rates SET boot = 'an earlier boot'")
        assert SqlRates(ledger, PER_MINUTE).reserve("create", 1).wait == 0.0
        assert SqlRates(ledger, PER_MINUTE).reserve("create", 1).wait > 0.0


def test_a_jump_of_the_wall_clock_neither_stops_nor_frees_anything(sqlite_url: str) -> None:
    wall, steady = Clock(), Clock(1000.0)
    with open_ledger(sqlite_url, clock=wall, steady=steady) as ledger:
        rates = SqlRates(ledger, PER_MINUTE)
        rates.reserve("create", 10)
        for jump in (3600.0, -7200.0):
            wall.advance(jump)
            assert 0.9 < rates.reserve("create", 0).wait < 1.1


def test_reserving_does_not_wait_for_the_disk(sqlite_url: str) -> None:
    with (
        open_ledger(sqlite_url) as ledger,
        ledger.relaxed_transaction() as (connection, _),
    ):
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1  # NORMAL


def test_an_unwritable_limit_is_a_ledger_error(sqlite_url: str) -> None:
    with open_ledger(sqlite_url, patience_seconds=0.1) as ledger:
        with ledger.transaction() as tx:
            tx.connection.exec_driver_sql("DROP TABLE flux_rates")
        with pytest.raises(LedgerError, match=r"ledger\.db: failed"):
            SqlRates(ledger, PER_MINUTE).reserve("create", 1)
