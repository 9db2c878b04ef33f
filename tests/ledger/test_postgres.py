"""The ledger on Postgres keeps the contract, also through a pooler of transactions (PgBouncer)."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from flux_pipeline.errors import LedgerError
from flux_pipeline.ledger.base import State
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.ledger.sql import SqlLedger
from tests.ledger.attempts import LEASE, Clock, begin, intent, latest, sha, wipe
from tests.ledger.contract import LedgerContract
from tests.servers.pgbouncer import SESSIONS, PgBouncer, running_pgbouncer
from tests.servers.postgres import PostgresServer


@pytest.fixture(scope="module")
def opened(postgres: PostgresServer, shared_clock: Clock) -> Iterator[SqlLedger]:
    with open_ledger(postgres.url, lease_seconds=LEASE, clock=shared_clock) as ledger:
        yield ledger


class TestPostgresLedger(LedgerContract):
    @pytest.fixture
    def ledger(self, opened: SqlLedger, clock: Clock) -> SqlLedger:
        wipe(opened)
        return opened


@pytest.fixture(scope="module")
def pooled(pgbouncer: PgBouncer, shared_clock: Clock) -> Iterator[SqlLedger]:
    url = pgbouncer.create_database()
    with open_ledger(url, lease_seconds=LEASE, clock=shared_clock) as ledger:
        yield ledger


class TestPooledLedger(LedgerContract):
    @pytest.fixture
    def ledger(self, pooled: SqlLedger, clock: Clock) -> SqlLedger:
        wipe(pooled)
        return pooled


def test_a_session_is_left_as_it_was(postgres: PostgresServer) -> None:
    """A pooler gives it to another program next, which must not inherit our limits."""
    with open_ledger(postgres.create_database(), patience_seconds=77) as ledger:
        begin(ledger)
        engine = ledger._database.engine
        with ledger.transaction() as tx:
            assert tx.connection.exec_driver_sql("SHOW lock_timeout").scalar() == "77s"
        with ledger.relaxed_transaction() as (connection, _):
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "off"
        raw = engine.raw_connection()
        cursor = raw.cursor()
        for name, default in (
            ("lock_timeout", "0"),
            ("idle_in_transaction_session_timeout", "0"),
            ("synchronous_commit", "on"),
        ):
            cursor.execute(f"SHOW {name}")
            assert cursor.fetchone() == (default,)
        for count in ("pg_prepared_statements", "pg_locks WHERE locktype = 'advisory'"):
            cursor.execute(f"SELECT count(*) FROM {count}")
            assert cursor.fetchone() == (0,)
        raw.close()


@pytest.mark.parametrize(
    "options", ["application_name=flux", "sslmode=disable", "connect_timeout=5"]
)
def test_options_that_a_pooler_can_take_work(pgbouncer: PgBouncer, options: str) -> None:
    with open_ledger(f"{pgbouncer.create_database()}?{options}") as ledger:
        begin(ledger)
        assert latest(ledger).state is State.INTENT


def test_an_option_that_a_pooler_refuses_is_an_error_that_says_so(pgbouncer: PgBouncer) -> None:
    url = f"{pgbouncer.create_database()}?options=-c%20search_path%3Dx"
    with pytest.raises(
        LedgerError, match=r"a pooler \(PgBouncer\) refuses an option of the address"
    ):
        open_ledger(url)


def test_a_pooler_of_statements_is_an_error_that_says_so(pgbouncer: PgBouncer) -> None:
    with pytest.raises(LedgerError, match="set its pool_mode to transaction or session"):
        open_ledger(pgbouncer.url("statement"))


def test_a_writer_that_hangs_behind_a_pooler_is_an_error_for_others(pgbouncer: PgBouncer) -> None:
    url = pgbouncer.create_database()
    with (
        open_ledger(url, patience_seconds=600) as hanging,
        open_ledger(url, patience_seconds=1.0) as ledger,
        hanging.transaction() as tx,
    ):
        tx.claim(intent(1), holder="a")
        with pytest.raises(LedgerError, match=r"was locked by another worker for 1 s"):
            begin(ledger, 2)
        assert not ledger.find([sha(1)])


def test_a_database_that_the_pooler_can_not_open_is_named(pgbouncer: PgBouncer) -> None:
    with pytest.raises(LedgerError, match="/nowhere: does not exist"):
        open_ledger(pgbouncer.url("nowhere"))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("query_wait_timeout = 1", "raise its default_pool_size, or run fewer workers"),
        (f"max_client_conn = {SESSIONS}", "raise its max_client_conn, or run fewer workers"),
    ],
)
def test_a_pooler_that_is_used_up_is_an_error_that_says_so(
    postgres: PostgresServer, setting: str, words: str
) -> None:
    with running_pgbouncer(postgres, setting) as pooler, ExitStack() as stack:
        ledger = stack.enter_context(open_ledger(pooler.create_database()))
        for _ in range(SESSIONS):
            stack.enter_context(ledger.read_transaction())
        with pytest.raises(LedgerError, match=words):
            ledger.is_empty()


def test_a_user_that_the_server_refuses_is_named_without_its_name(postgres: PostgresServer) -> None:
    url = postgres.url.replace("postgres@", "nary@")
    with pytest.raises(LedgerError, match="refused the user or password") as caught:
        open_ledger(url)
    assert "nary" not in str(caught.value)


def test_indexes_have_their_conditions_in_postgres_too(postgres: PostgresServer) -> None:
    with open_ledger(postgres.create_database()) as ledger, ledger.transaction() as tx:
        rows = tx.connection.exec_driver_sql(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'flux_attempts'"
        )
        found = {str(name): str(said) for name, said in rows}
    conditions = {name: said.partition(" WHERE ")[2] for name, said in found.items()}
    assert conditions["flux_attempts_latest"] == "latest"
    assert {name for name, condition in conditions.items() if condition} == {
        "flux_attempts_latest",
        "flux_attempts_unrecorded",
        "flux_attempts_prediction",
        "flux_attempts_input",
    }
