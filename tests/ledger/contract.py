"""The ledger's contract: what the core may rely on, whatever keeps the rows.

A subclass gives the ``ledger`` fixture, on the ``clock`` of these tests and with ``LEASE``.
"""

from tests.ledger.contract_accepting import AcceptContract
from tests.ledger.contract_adopting import AdoptContract, AdoptedByAnotherContract
from tests.ledger.contract_budgets import BudgetContract
from tests.ledger.contract_claims import ClaimContract
from tests.ledger.contract_closing import CloseContract, ReplayContract
from tests.ledger.contract_pruning import PruneContract
from tests.ledger.contract_reading import ReadContract
from tests.ledger.contract_reopening import ReopenContract, RetryContract


class LedgerContract(
    ClaimContract,
    AcceptContract,
    AdoptContract,
    AdoptedByAnotherContract,
    CloseContract,
    PruneContract,
    RetryContract,
    ReopenContract,
    BudgetContract,
    ReadContract,
    ReplayContract,
):
    """All of it."""
