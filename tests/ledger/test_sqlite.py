"""The ledger on SQLite keeps the contract."""

from collections.abc import Iterator

import pytest

from flux_pipeline.ledger.opening import open_ledger
from flux_pipeline.ledger.sql import SqlLedger
from tests.ledger.actions import LEASE, Clock, wipe
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
