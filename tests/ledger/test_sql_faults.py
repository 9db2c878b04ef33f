"""What goes wrong in a database is a LedgerError that says what to do; nothing is half written."""

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from flux_pipeline.errors import LedgerError
from flux_pipeline.ledger.base import Budget, Claimed, State
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.ledger.sql import SqlLedger
from tests.ledger.attempts import COST, begin, intent, latest, sha
from tests.servers.postgres import PostgresServer

SECRET = "r8_s3cret"


@pytest.fixture
def sqlite_ledger(sqlite_url: str) -> Iterator[SqlLedger]:
    with open_ledger(sqlite_url, patience_seconds=0.1) as ledger:
        yield ledger


@pytest.fixture
def postgres_ledger(postgres: PostgresServer) -> Iterator[SqlLedger]:
    with open_ledger(postgres.create_database()) as ledger:
        yield ledger


def run(ledger: SqlLedger, statement: str) -> None:
    with ledger.transaction() as tx:
        tx.connection.exec_driver_sql(statement)


def begin_many(ledger: SqlLedger, numbers: Iterable[int], budget: Budget) -> None:
    for number in numbers:
        begin(ledger, number, budgets=(budget,))


def claim_with_a_stop_between(stopped: SqlLedger, other: SqlLedger) -> None:
    with stopped.transaction() as tx:
        tx.claim(intent(1), holder="a")
        limit = tx.connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout")
        assert limit.scalar() == "5min", "half of its patience"
        # Only now so short that the machine's own stops may exceed it.
        tx.connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = '0.5s'")
        begin(other, 2)  # waits until the server has ended the stopped one
        tx.claim(intent(3), holder="a")


class TestSqlite:
    def test_a_full_database_grants_nothing(self, sqlite_ledger: SqlLedger) -> None:
        begin(sqlite_ledger, 1)
        run(sqlite_ledger, "PRAGMA max_page_count = 1")  # raised to what there is already
        with pytest.raises(LedgerError, match=r"the disk is full, .* \(SQLITE_FULL\)"):
            begin_many(sqlite_ledger, range(2, 10_000), Budget("run:1", None))
        granted = len(list(sqlite_ledger.attempts()))
        assert sqlite_ledger.spent_micros("run:1") == (granted - 1) * COST
        run(sqlite_ledger, "PRAGMA max_page_count = 100000")
        begin(sqlite_ledger, 10_000)

    def test_a_damaged_file_is_named(self, sqlite_url: str) -> None:
        with open_ledger(sqlite_url) as ledger:
            for number in range(50):
                begin(ledger, number)
        path = sqlite_url.removeprefix("sqlite:///")
        with open(path, "r+b") as file:  # noqa: PTH123  the path is a URL's
            file.seek(4096)
            file.write(b"\xff" * 4096 * 4)
        with (
            pytest.raises(LedgerError, match=r"ledger\.db: is damaged: restore"),
            open_ledger(sqlite_url) as ledger,
        ):
            ledger.find([sha(number) for number in range(50)])

    def test_an_exception_undoes_the_whole_transaction(self, sqlite_ledger: SqlLedger) -> None:
        def fail() -> None:
            with sqlite_ledger.transaction() as tx:
                tx.claim(intent(1), holder="a", budgets=[Budget("run:1", None)])
                raise KeyError(1)

        with pytest.raises(KeyError):
            fail()
        assert not sqlite_ledger.find([sha(1)])
        assert sqlite_ledger.spent_micros("run:1") == 0

    def test_errors_hold_no_values(self, sqlite_ledger: SqlLedger) -> None:
        attempt = begin(sqlite_ledger)
        run(sqlite_ledger, "DROP TABLE flux_attempts")
        with pytest.raises(LedgerError) as caught:
            sqlite_ledger.accept(attempt, prediction_id="p1", reply=SECRET)
        assert SECRET not in repr(caught.getrepr(chain=True))
        assert caught.value.__suppress_context__

    def test_threads_share_one_ledger(self, sqlite_ledger: SqlLedger) -> None:
        budgets = [Budget("run:1", 30 * COST)]

        def claim(number: int) -> bool:
            answer = sqlite_ledger.claim(intent(number % 50), holder=str(number), budgets=budgets)
            return isinstance(answer, Claimed)

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(claim, range(100))) == 30
        assert sqlite_ledger.spent_micros("run:1") == 30 * COST


class TestPostgres:
    def test_errors_hold_no_row_that_the_server_quotes(self, postgres_ledger: SqlLedger) -> None:
        run(postgres_ledger, "ALTER TABLE flux_attempts ADD CHECK (cost_micros < 0)")
        with pytest.raises(LedgerError, match=r"failed \(23514\)") as caught:
            postgres_ledger.claim(replace(intent(), request_json=SECRET), holder="a")
        assert SECRET not in repr(caught.getrepr(chain=True))

    def test_a_cut_connection_is_an_error_and_the_next_call_works(
        self, postgres_ledger: SqlLedger
    ) -> None:
        begin(postgres_ledger, 1)

        def claim_and_be_cut() -> None:
            with postgres_ledger.transaction() as tx:
                tx.claim(intent(2), holder="a")
                tx.connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")

        with pytest.raises(LedgerError, match=r"is shutting down or was restarted|cut the conn"):
            claim_and_be_cut()
        assert not postgres_ledger.find([sha(2)])
        begin(postgres_ledger, 2)

    def test_a_restarted_server_is_found_again(self, postgres: PostgresServer) -> None:
        with open_ledger(postgres.create_database()) as ledger:
            begin(ledger, 1)
            postgres.stop()
            with pytest.raises(LedgerError, match="can't be reached or cut the connection"):
                begin(ledger, 2)
            postgres.start()
            assert latest(ledger, 1).state is State.INTENT
            begin(ledger, 2)

    def test_a_replica_is_told_by_its_answer(self, postgres: PostgresServer) -> None:
        url = postgres.create_database()
        open_ledger(url).dispose()
        options = "-c default_transaction_read_only=on"
        with open_ledger(f"{url}&options={options}") as ledger:
            assert not ledger.find([sha(1)])
            with pytest.raises(LedgerError, match=r"is read-only \(a replica\?\).*\(25006\)"):
                begin(ledger)

    def test_a_writer_that_hangs_is_an_error_for_others(self, postgres: PostgresServer) -> None:
        url = postgres.create_database()
        with (
            open_ledger(url, patience_seconds=600) as hanging,
            open_ledger(url, patience_seconds=2.0) as ledger,
            hanging.transaction() as tx,
        ):
            tx.claim(intent(1), holder="a")
            with pytest.raises(LedgerError, match=r"was locked by another worker for 2 s"):
                begin(ledger, 2)
            assert not ledger.find([sha(1)])

    def test_the_server_ends_the_transaction_of_a_stopped_worker(
        self, postgres: PostgresServer
    ) -> None:
        url = postgres.create_database()
        with (
            open_ledger(url, patience_seconds=600) as ledger,
            open_ledger(url, patience_seconds=600) as stopped,
        ):
            with pytest.raises(LedgerError, match="this worker was stopped"):
                claim_with_a_stop_between(stopped, ledger)
            assert not ledger.find([sha(1), sha(3)])

    def test_time_is_the_servers(self, postgres: PostgresServer) -> None:
        with open_ledger(postgres.create_database(), lease_seconds=1000.0) as ledger:
            with ledger.transaction() as tx:
                asked = tx.connection.exec_driver_sql(
                    "SELECT extract(epoch FROM clock_timestamp())::float8"
                ).scalar_one()
            begin(ledger)
            assert latest(ledger).claimed_at == pytest.approx(asked, abs=600)
            claim = ledger.claim(intent(), holder="b")
            assert not isinstance(claim, Claimed)
            run(ledger, "UPDATE flux_attempts SET claimed_at = claimed_at - 1000")
            assert isinstance(ledger.claim(intent(), holder="b"), Claimed)
            assert ledger.unfinished(older_than=0.0)
            assert not ledger.unfinished(older_than=600.0)

    def test_commits_are_durable_whatever_the_server_defaults_to(
        self, postgres: PostgresServer
    ) -> None:
        url = postgres.create_database()
        with open_ledger(f"{url}&options=-c synchronous_commit=off") as ledger:
            with ledger.transaction() as tx:
                kept = tx.connection.exec_driver_sql("SHOW synchronous_commit").scalar()
            with ledger.relaxed_transaction() as (connection, _):
                hasty = connection.exec_driver_sql("SHOW synchronous_commit").scalar()
        assert (kept, hasty) == ("on", "off")

    def test_a_first_opening_by_many_at_once_works(self, postgres: PostgresServer) -> None:
        url = postgres.create_database()
        open_many_at_once(url)


def test_a_first_opening_of_a_file_by_many_at_once_works(sqlite_url: str) -> None:
    open_many_at_once(sqlite_url)


def open_many_at_once(url: str) -> None:
    start = threading.Barrier(6)

    def work(number: int) -> None:
        start.wait()
        with open_ledger(url, patience_seconds=600) as ledger:
            begin(ledger, number)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    with open_ledger(url) as ledger:
        assert len(list(ledger.attempts())) == 6


def test_an_unknown_error_still_says_what_to_do(
    sqlite_ledger: SqlLedger, postgres_ledger: SqlLedger
) -> None:
    for ledger in (sqlite_ledger, postgres_ledger):
        for error in (SQLAlchemyError("x"), OperationalError("SELECT", {}, KeyError("x"))):
            message = ledger._database.explain(error)
            assert "run again" in message
