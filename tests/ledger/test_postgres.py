"""The ledger on Postgres keeps the contract."""

from collections.abc import Iterator

import pytest

from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.ledger.sql import SqlLedger
from tests.ledger.attempts import LEASE, Clock, wipe
from tests.ledger.contract import LedgerContract
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
