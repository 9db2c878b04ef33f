"""Fixtures of the ledger's tests."""

from pathlib import Path

import pytest

from tests.ledger.attempts import START, Clock


@pytest.fixture(scope="session")
def shared_clock() -> Clock:
    """For ledgers that outlive a test."""
    return Clock()


@pytest.fixture
def clock(shared_clock: Clock) -> Clock:
    shared_clock.now = START
    return shared_clock


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/data/ledger.db"
