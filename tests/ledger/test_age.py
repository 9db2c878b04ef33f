"""The age of an attempt decides what the provider's list proves, so no leap of a clock moves it."""

from collections.abc import Iterator

import pytest

from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.ledger.sql import SqlLedger
from tests.ledger.attempts import LEASE, Clock, begin, claimed, intent
from tests.servers.postgres import PostgresServer

HOUR = 3600.0


@pytest.fixture
def steady() -> Clock:
    return Clock(500.0)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, sqlite_url: str) -> str:
    if request.param == "sqlite":
        return sqlite_url
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.create_database()


@pytest.fixture
def ledger(url: str, clock: Clock, steady: Clock) -> Iterator[SqlLedger]:
    with open_ledger(url, lease_seconds=LEASE, clock=clock, steady=steady) as opened:
        yield opened


@pytest.mark.parametrize("leap", [HOUR, -HOUR])
def test_a_leap_of_the_wall_clock_makes_nothing_older(
    ledger: SqlLedger, url: str, clock: Clock, steady: Clock, leap: float
) -> None:
    begin(ledger)
    for each in (clock, steady):
        each.advance(3 * LEASE)
    clock.advance(leap)
    ledger.dispose()
    # A server's clock is the only one of its leases: set back, it keeps them for longer.
    clock.advance(HOUR if leap < 0 and url.startswith("postgres") else 0.0)

    with open_ledger(url, lease_seconds=LEASE, clock=clock, steady=steady) as other:
        taken = claimed(other.claim(intent(), holder="b"), fresh=False)

    assert taken.age == 3 * LEASE


def test_after_a_reboot_the_wall_clock_is_all_there_is(
    ledger: SqlLedger, clock: Clock, steady: Clock
) -> None:
    begin(ledger)
    with ledger.transaction() as tx:
        tx.connection.exec_driver_sql("UPDATE flux_attempts SET boot = 'old', intent_boot = 'old'")
    clock.advance(3 * HOUR)
    steady.advance(7.0)

    taken = claimed(ledger.claim(intent(), holder="b"), fresh=False)

    assert (taken.steady_age, taken.age) == (None, 3 * HOUR)
