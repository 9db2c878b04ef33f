"""The ledger on SQLite keeps the contract."""

from collections.abc import Iterator

import pytest

from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.ledger.sql import SqlLedger
from tests.ledger.attempts import LEASE, Clock, begin, sha, wipe
from tests.ledger.contract import LedgerContract


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory, shared_clock: Clock) -> Iterator[SqlLedger]:
    url = f"sqlite:///{tmp_path_factory.mktemp('ledger')}/ledger.db"
    with open_ledger(url, lease_seconds=LEASE, clock=shared_clock) as ledger:
        yield ledger


class TestSqliteLedger(LedgerContract):
    @pytest.fixture
    def ledger(self, opened: SqlLedger, clock: Clock) -> SqlLedger:
        wipe(opened)
        return opened

    def test_many_attempts_are_read_in_pages(self, ledger: SqlLedger) -> None:
        count = 2100
        with ledger.transaction() as tx:
            for number in range(count):
                begin(tx, number)
            assert [each.request_sha256 for each in tx.attempts()] == [
                sha(number) for number in range(count)
            ]
        assert sum(1 for _ in ledger.attempts()) == count

    def test_a_slow_reader_keeps_nobody_waiting(self, ledger: SqlLedger) -> None:
        begin(ledger, 1)
        reading = ledger.attempts()
        assert next(reading).request_sha256 == sha(1)
        begin(ledger, 2)
        assert [each.request_sha256 for each in reading] == [sha(2)]
