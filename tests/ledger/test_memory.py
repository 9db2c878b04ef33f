"""The in-memory ledger keeps the contract."""

import pytest

from flux_pipeline.ledger.base import Busy
from tests.ledger.attempts import LEASE, Clock, begin, claimed, intent
from tests.ledger.contract import LedgerContract
from tests.ledger.memory import MemoryLedger


class TestMemoryLedger(LedgerContract):
    @pytest.fixture
    def ledger(self, clock: Clock) -> MemoryLedger:
        return MemoryLedger(clock=clock, lease_seconds=LEASE)

    def test_a_buried_holder_loses_its_claims_at_once(self, ledger: MemoryLedger) -> None:
        begin(ledger, 1, holder="a")
        begin(ledger, 2, holder="b")
        ledger.bury("a")
        claimed(ledger.claim(intent(1), holder="c"), fresh=False)
        assert isinstance(ledger.claim(intent(2), holder="c"), Busy)
