from collections.abc import Iterator

import pytest

from tests.alerts.receiver import Receiver, receiver


@pytest.fixture
def webhook() -> Iterator[Receiver]:
    with receiver() as running:
        yield running
