"""What the handler does beside the one call that an effect asks for."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from flux_pipeline.errors import DownloadError
from flux_pipeline.ledger.base import Adoption, Claimed, Intent
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.ledger.writer import LedgerWriter
from flux_pipeline.outcomes import Absent, Found
from flux_pipeline.prediction import Output, Prediction, Status
from flux_pipeline.produce import effects as fx
from flux_pipeline.produce.brake import Brake
from flux_pipeline.produce.downloads import Downloads
from flux_pipeline.produce.handler import ClaimRenewals, EffectHandler, RunServices
from flux_pipeline.produce.pictures import InputPreparer
from flux_pipeline.produce.policy import Policy, RunContext
from flux_pipeline.produce.spool import Spool
from tests.produce.pipeline import make_requests

LEASE = 0.3
MADE = Prediction(id="p1", status=Status.SUCCEEDED)


NOTHING: Any = None
NO_PICTURES = InputPreparer(NOTHING, NOTHING, NOTHING, Policy())


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


class RefusingDownload:
    """A provider whose outputs can't be had."""

    async def download(self, _output: Output) -> bytes:
        raise DownloadError("nobody may have it")


class AdoptingList:
    """A list that shows one prediction, which another take adopts while it is read."""

    def __init__(self, adopt: Callable[[str], object]) -> None:
        self.adopt = adopt

    async def find(self, request: Any, *, known: Any, **_: Any) -> Absent | Found:
        self.adopt("p1")
        return Absent() if "p1" in known else Found(Prediction(id="p1", status=Status.STARTING))


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_id_that_another_take_adopts_while_the_list_is_read_is_no_proof_of_absence(
    tmp_path: Path,
) -> None:
    """That take may leave a prediction which this reading does not show: it is read again."""
    (request,) = make_requests(1)
    mine, other = (Intent(str(n) * 64, "set", "run", 3000, "{}", "5" * 64) for n in (1, 2))
    with open_ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        claims = [ledger.claim(each, holder="me") for each in (mine, other)]
        attempts = [claim.attempt for claim in claims if isinstance(claim, Claimed)]

        def adopt(identity: str) -> object:
            return ledger.adopt(attempts[1], holder="me", prediction_id=identity, reply="{}")

        async with LedgerWriter(ledger) as writer:
            services: Any = RunServices.__new__(RunServices)
            services.provider, services.ledger = AdoptingList(adopt), writer
            services.policy, services.not_ours = Policy(), frozenset()
            services.inputs, services.renewals = NO_PICTURES, ClaimRenewals(writer, LEASE)
            handler = EffectHandler(services, request, "me", mine, ())
            find = fx.FindInList(attempts[0])
            found: Any = await handler.perform(find)
            write = fx.WriteFound(attempts[0], found.prediction)

            assert await handler.perform(write) is Adoption.TAKEN
            assert await handler.perform(find) == Absent()


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
            services.inputs, services.renewals = NO_PICTURES, ClaimRenewals(writer, LEASE)
            handler = EffectHandler(services, request, "me", intent, ())
            with anyio.fail_after(600):
                async with anyio.create_task_group() as group:
                    group.start_soon(services.renewals.run)
                    assert await handler.perform(fx.FindInList(claim.attempt)) == Absent()
                    group.cancel_scope.cancel()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_claim_is_kept_while_no_further_picture_may_be_in_memory(tmp_path: Path) -> None:
    (request,) = make_requests(1)
    intent = Intent(request.request_sha256, "set", "run", 3000, "{}")
    output = Output(0, "data:image/png;base64,AAAA")
    with open_ledger(f"sqlite:///{tmp_path}/ledger.db", lease_seconds=LEASE) as ledger:
        claim = ledger.claim(intent, holder="me")
        assert isinstance(claim, Claimed)
        full = Downloads(anyio.CapacityLimiter(1))
        full.limiter.acquire_on_behalf_of_nowait("another")
        async with LedgerWriter(ledger) as writer:
            services: Any = RunServices.__new__(RunServices)
            services.ledger, services.downloads, services.brake = writer, full, Brake()
            services.policy, services.spool = Policy(lease=LEASE), Spool(tmp_path / "spool")
            services.run, services.provider = RunContext("run"), RefusingDownload()
            services.renewals = ClaimRenewals(writer, LEASE)
            handler = EffectHandler(services, request, "me", intent, ())
            outcomes: list[Any] = []

            async def store() -> None:
                effect = fx.StoreOutput(claim.attempt, MADE, output, polls=1)
                outcomes.append(await handler.perform(effect))

            sha, claimed_at = request.request_sha256, claim.attempt.claimed_at
            tasks = len(asyncio.all_tasks())
            with anyio.fail_after(600):
                async with anyio.create_task_group() as group:
                    group.start_soon(services.renewals.run)
                    group.start_soon(store)
                    while ledger.find([sha])[sha].claimed_at <= claimed_at:  # noqa: ASYNC110
                        await anyio.sleep(0.01)
                    assert not outcomes
                    assert len(asyncio.all_tasks()) == tasks + 2  # the renewals and the request
                    full.limiter.release_on_behalf_of("another")
                    while not outcomes:  # noqa: ASYNC110
                        await anyio.sleep(0.01)
                    group.cancel_scope.cancel()
    assert outcomes == [fx.NotStored("refused", "output 0: nobody may have it")]
    assert full.limiter.borrowed_tokens == 0


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_all_that_wait_are_renewed_together_and_a_lost_claim_no_more(tmp_path: Path) -> None:
    requests = make_requests(3)
    mine, taken, done = (Intent(r.request_sha256, "set", "run", 3000, "{}") for r in requests)
    shas = [each.request_sha256 for each in (mine, taken, done)]
    with open_ledger(f"sqlite:///{tmp_path}/ledger.db", lease_seconds=LEASE) as ledger:
        claims = [ledger.claim(each, holder="me") for each in (mine, taken, done)]
        first = [claim.attempt for claim in claims if isinstance(claim, Claimed)]
        async with LedgerWriter(ledger) as writer:
            renewals = ClaimRenewals(writer, LEASE)
            with (
                anyio.fail_after(600),
                renewals.while_waiting(first[0], holder="me"),
                renewals.while_waiting(first[1], holder="nobody"),
            ):
                with renewals.while_waiting(first[2], holder="another"):
                    pass
                async with anyio.create_task_group() as group:
                    group.start_soon(renewals.run)
                    while ledger.find(shas)[shas[0]].claimed_at <= first[0].claimed_at:  # noqa: ASYNC110
                        await anyio.sleep(0.01)
                    group.cancel_scope.cancel()
                assert list(renewals.waiting) == ["me"]
        found = ledger.find(shas)
    renewed = [found[sha].claimed_at > was.claimed_at for sha, was in zip(shas, first, strict=True)]
    assert renewed == [True, False, False]
