"""What the handler does beside the one call that an effect asks for."""

from pathlib import Path
from typing import Any

import anyio
import pytest

from flux_pipeline.ledger.base import Claimed, Intent
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.ledger.writer import LedgerWriter
from flux_pipeline.outcomes import Absent
from flux_pipeline.produce import effects as fx
from flux_pipeline.produce.handler import EffectHandler, RunServices
from flux_pipeline.produce.policy import Policy
from tests.produce.pipeline import make_requests

LEASE = 0.3


class SlowList:
    """A list that is not read to its end before the ledger shows a younger claim."""

    def __init__(self, ledger: Any, claimed_at: float) -> None:
        self.ledger = ledger
        self.claimed_at = claimed_at

    async def find(self, request: Any, **_: Any) -> Absent:
        sha = request.request_sha256
        while self.ledger.find([sha])[sha].claimed_at <= self.claimed_at:  # noqa: ASYNC110
            await anyio.sleep(0.01)
        return Absent()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_claim_is_kept_while_a_long_list_is_read(tmp_path: Path) -> None:
    (request,) = make_requests(1)
    intent = Intent(request.request_sha256, "set", "run", 3000, "{}")
    with open_ledger(f"sqlite:///{tmp_path}/ledger.db", lease_seconds=LEASE) as ledger:
        claim = ledger.claim(intent, holder="me")
        assert isinstance(claim, Claimed)
        async with LedgerWriter(ledger) as writer:
            services: Any = RunServices.__new__(RunServices)
            services.provider = SlowList(ledger, claim.attempt.claimed_at)
            services.ledger, services.known_ids = writer, ledger.known_ids
            services.policy = Policy(lease=LEASE, send_timeout=0.1)
            handler = EffectHandler(services, request, "me", intent, ())
            with anyio.fail_after(600):
                assert await handler.perform(fx.FindInList(claim.attempt)) == Absent()
