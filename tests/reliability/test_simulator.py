"""100,000 schedules break no invariant, and each of the bugs seeded here is caught within 1,000."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from flux_pipeline.ledger.base import Adoption, Attempt, Claimed, Intent, State
from flux_pipeline.outcomes import (
    Ambiguous,
    Gone,
    NeverSent,
    Polled,
    Refused,
    Rejected,
    Stopped,
)
from flux_pipeline.prediction import Prediction, Status
from flux_pipeline.produce import effects as fx
from flux_pipeline.produce.policy import Policy
from flux_pipeline.produce.report import Stop
from tests.ledger.memory import MemoryLedger
from tests.reliability.simulator import EPOCH, LEASE, REQUESTS, Slot, Upload, Weather, World

CHUNK = 2_000
SCHEDULES = 100_000
AT_ONCE = 4_000
"""Schedules of every run of the suite, four times as many as find each seeded bug. The others are
those of `make torture`."""
FAR_AWAY = 1e9


def chunks(at_once: int, of: int, size: int) -> list[Any]:
    """The schedules in chunks; those of the suite are the first."""
    return [
        pytest.param(
            range(first, first + size),
            id=str(first),
            marks=() if first < at_once else pytest.mark.torture,
        )
        for first in range(0, of, size)
    ]


@pytest.mark.parametrize("seeds", chunks(AT_ONCE, SCHEDULES, CHUNK))
def test_no_schedule_breaks_an_invariant(seeds: range) -> None:
    broken = {seed: World(seed).run() for seed in seeds}

    assert {seed: lines for seed, lines in broken.items() if lines} == {}


@pytest.mark.parametrize("seeds", chunks(1_000, 2_000, 1_000))
@pytest.mark.parametrize("unknown", ["hold", "resend"])
def test_without_a_list_nothing_is_paid_twice_unreported(unknown: Any, seeds: range) -> None:
    policy = Policy(lease=LEASE, busy_interval=20.0, unknown=unknown)
    for seed in seeds:
        world = World(seed, Weather(has_list=False), policy)

        assert world.run() == []
        if world.backup is not None:  # what was under way then is known to nobody
            continue
        for number in world.requests:
            paid = [c for c in world.charges if c.request == number and c.end is Status.SUCCEEDED]
            told = [
                attempt
                for attempt in world.ledger.history(REQUESTS[number].request_sha256)
                if attempt.state in (State.RESENT, State.DUPLICATE)
            ]
            assert len(paid) <= 1 + len(told)


SHORT_LEASE = Policy(lease=25.0, send_timeout=18.0, visibility=60.0, busy_interval=5.0)
LATE = Weather(lateness=30.0)


@pytest.mark.parametrize("seeds", chunks(1_000, 3_000, 1_000))
def test_a_proof_that_takes_longer_than_the_lease_is_waited_for(seeds: range) -> None:
    broken = {seed: World(seed, LATE, SHORT_LEASE).run() for seed in seeds}

    assert {seed: lines for seed, lines in broken.items() if lines} == {}


class NeverRenews(World):
    """Lets its claim grow old while it waits for the list."""

    def RenewClaim(self, slot: Slot, effect: fx.RenewClaim) -> tuple[float, bool]:
        return 0.01, True


def test_without_renewals_two_workers_take_a_request_from_each_other_for_ever() -> None:
    assert any(NeverRenews(seed, LATE, SHORT_LEASE).run() for seed in range(1_000))


class NoIntent(World):
    """Sends before the intent is durable: it is written together with the id."""

    def ClaimAttempt(self, slot: Slot, effect: fx.ClaimAttempt) -> tuple[float, object]:
        sha = REQUESTS[slot.request].request_sha256
        if self.ledger.find([sha]):
            return super().ClaimAttempt(slot, effect)
        intent = Intent(sha, "set", "run", 3000, "{}")
        now = EPOCH + self.now
        return 0.01, Claimed(Attempt(sha, 1, State.INTENT, slot.holder, now, now, intent), True)


class DoneTooEarly(World):
    """Calls a prediction stored when it has succeeded, before its image is."""

    def WriteSucceeded(self, slot: Slot, effect: fx.WriteSucceeded) -> tuple[float, bool]:
        return 0.01, self.ledger.close(effect.attempt, State.STORED, holder=slot.holder)


class StaleWindow(World):
    """Looks in the list for what was created since the takeover, not since the intent."""

    def window(self, attempt: Attempt) -> float:
        return attempt.claimed_at + 600.0


class UnclaimedLedger(MemoryLedger):
    def claim(self, intent: Intent, **arguments: Any) -> Any:
        latest = self.find([intent.request_sha256]).get(intent.request_sha256)
        if latest is not None and latest.state is State.INTENT:
            return Claimed(latest, fresh=True)
        return super().claim(intent, **arguments)


class NoClaim(World):
    """Takes an open intent for its own, whoever holds it."""

    def make_ledger(self) -> Any:
        return UnclaimedLedger(clock=lambda: EPOCH + self.now, lease_seconds=self.policy.lease)


class NoLeaseCheck(World):
    """Sends however long it was stopped after the claim."""

    def Send(self, slot: Slot, effect: fx.Send) -> tuple[float, object]:
        return super().Send(slot, replace(effect, not_after=FAR_AWAY))


class SettlesTooEarly(World):
    """Believes the list at once, although it shows new predictions late."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.policy = replace(self.policy, visibility=0.0)


class ResendsOnError(World):
    """Takes a 500 or a reset for a request that never arrived."""

    def Send(self, slot: Slot, effect: fx.Send) -> tuple[float, object]:
        delay, outcome = super().Send(slot, effect)
        return delay, NeverSent(outcome.reason) if isinstance(outcome, Ambiguous) else outcome


class ForgetfulLedger(MemoryLedger):
    def claim(self, intent: Intent, *, holder: str, after: int = 0, budgets: Any = ()) -> Any:
        claim = super().claim(intent, holder=holder, after=after, budgets=budgets)
        return replace(claim, fresh=True) if isinstance(claim, Claimed) else claim


class ForgottenAttempt(World):
    """Takes over an open intent as if nothing could have been sent under it."""

    def make_ledger(self) -> Any:
        return ForgetfulLedger(clock=lambda: EPOCH + self.now, lease_seconds=self.policy.lease)


class IdNotWritten(World):
    """Keeps the id in memory until the image is stored."""

    def WriteAccepted(self, slot: Slot, effect: fx.WriteAccepted) -> tuple[float, State]:
        return 0.01, State.ACCEPTED


class CarelessLedger(MemoryLedger):
    def find(self, request_sha256s: Sequence[str]) -> dict[str, Attempt]:
        return {
            sha: replace(attempt, state=State.UNSENT) if attempt.state is State.INTENT else attempt
            for sha, attempt in super().find(request_sha256s).items()
        }

    def claim(self, intent: Intent, *, holder: str, after: int = 0, budgets: Any = ()) -> Any:
        latest = MemoryLedger.find(self, [intent.request_sha256]).get(intent.request_sha256)
        if latest is not None and latest.number == after and latest.state is State.INTENT:
            self.close(latest, State.UNSENT, holder=latest.holder)
        return super().claim(intent, holder=holder, after=after, budgets=budgets)


class DropsOpenIntents(World):
    """Starts every run with a clean slate: what has no id was never sent."""

    def make_ledger(self) -> Any:
        return CarelessLedger(clock=lambda: EPOCH + self.now, lease_seconds=self.policy.lease)


class LostOn404(World):
    """Creates again when a poll answers 404."""

    def Poll(self, slot: Slot, effect: fx.Poll) -> tuple[float, object]:
        delay, outcome = super().Poll(slot, effect)
        if isinstance(outcome, Gone):
            return delay, Polled(Prediction(id=effect.prediction_id, status=Status.CANCELED))
        return delay, outcome


class FoundByAnyone(World):
    """Gives a listed id to an attempt that was given up long ago: never looks at its claim."""

    def RenewClaim(self, slot: Slot, effect: fx.RenewClaim) -> tuple[float, bool]:
        return 0.01, True

    def WriteFound(self, slot: Slot, effect: fx.WriteFound) -> tuple[float, Adoption]:
        identity = effect.prediction.id
        state = self.ledger.accept(effect.attempt, prediction_id=identity, reply="{}")
        return 0.01, Adoption.ADOPTED if state is State.ACCEPTED else Adoption.NOT_OURS


class BelievesA404(World):
    """Calls what is paid gone at the first 404."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.policy = replace(self.policy, gone_patience=0.0, output_lifetime=-FAR_AWAY)


class RefusedDownloadCloses(World):
    """Gives up an output that our own settings don't allow."""

    def Poll(self, slot: Slot, effect: fx.Poll) -> tuple[float, object]:
        delay, outcome = super().Poll(slot, effect)
        if slot.worker.wrong_host and isinstance(outcome, Polled) and outcome.prediction.outputs:
            removed = replace(outcome.prediction, outputs=(), data_removed=True)
            return delay, Polled(removed)
        return delay, outcome


class RejectionIsRefused(World):
    """Takes a 404 of a wrong address for an answer about the prompt."""

    def Send(self, slot: Slot, effect: fx.Send) -> tuple[float, object]:
        delay, outcome = super().Send(slot, effect)
        if isinstance(outcome, Rejected):
            return delay, Refused(outcome.code, outcome.detail)
        return delay, outcome


class FailedForEver(World):
    """Never asks again for what has failed without a known reason."""

    def Close(self, slot: Slot, effect: fx.Close) -> tuple[float, bool]:
        return super().Close(slot, replace(effect, retryable=False))


class AsksForEver(World):
    """Forgets how often a request has failed."""

    def ReadHistory(self, slot: Slot, effect: fx.ReadHistory) -> tuple[float, object]:
        return 0.01, ()


class RetriesBadInput(World):
    """Asks again for what fails by the request's own fault."""

    def Close(self, slot: Slot, effect: fx.Close) -> tuple[float, bool]:
        is_failed = effect.state is State.FAILED
        return super().Close(slot, replace(effect, retryable=effect.retryable or is_failed))


class StoreIsNotAsked(World):
    """Believes a ledger that was restored from a backup."""

    def FindStored(self, slot: Slot, effect: fx.FindStored) -> tuple[float, Stopped | None]:
        return 0.02, None


class CreatesWhileTheStoreFails(World):
    """Looks for its image in a store that fails, and takes no answer for none."""

    def FindStored(self, slot: Slot, effect: fx.FindStored) -> tuple[float, Stopped | None]:
        delay, stopped = super().FindStored(slot, effect)
        if stopped is not None and stopped.kind == Stop.STORE:
            slot.worker.stopped = None
            return delay, None
        return delay, stopped


class FetchedBytesAreDropped(World):
    """Keeps what was fetched in memory while the store fails, and so only until the run ends."""

    def FindImage(self, slot: Slot, effect: fx.FindImage) -> tuple[float, object]:
        if effect.prediction.id not in self.objects.values():
            return 0.1, fx.NotStored("removed", "nothing is stored")
        return super().FindImage(slot, effect)


class StoredImageIsForgotten(World):
    """Never looks in the store for what a run has stored that died before the ledger knew."""

    def FindImage(self, slot: Slot, effect: fx.FindImage) -> tuple[float, object]:
        if effect.prediction.id in self.spool:
            return super().FindImage(slot, effect)
        return 0.1, fx.NotStored("removed", "nothing is stored")


class OldAddressIsSent(World):
    """Never looks at when an upload ends."""

    def address_of(self, number: int) -> Upload | None:
        return next((each for each in self.uploads if each.picture == number), None)

    def is_too_late(self, upload: Upload | None) -> bool:
        return upload is None


class OneUploadForAll(World):
    """Takes one request's picture for another's."""

    def address_of(self, number: int) -> Upload | None:
        return super().address_of(number) or super().address_of(0)


class EndsWhileItWaits(World):
    """Looks at the address when it is prepared, and not when it is sent."""

    def is_too_late(self, upload: Upload | None) -> bool:
        return upload is None


class FoundIsNotCounted(World):
    """Leaves out of a run's sum what was found in the list."""

    def WriteFound(self, slot: Slot, effect: fx.WriteFound) -> tuple[float, Adoption]:
        delay, adoption = super().WriteFound(slot, effect)
        self.created -= adoption is Adoption.ADOPTED
        return delay, adoption


@pytest.mark.parametrize(
    "bug",
    [
        NoIntent,
        DoneTooEarly,
        StaleWindow,
        NoClaim,
        NoLeaseCheck,
        SettlesTooEarly,
        ResendsOnError,
        ForgottenAttempt,
        IdNotWritten,
        DropsOpenIntents,
        LostOn404,
        FoundByAnyone,
        BelievesA404,
        RefusedDownloadCloses,
        RejectionIsRefused,
        FailedForEver,
        AsksForEver,
        RetriesBadInput,
        StoreIsNotAsked,
        CreatesWhileTheStoreFails,
        FetchedBytesAreDropped,
        StoredImageIsForgotten,
        FoundIsNotCounted,
    ],
)
def test_a_seeded_bug_is_caught_within_a_thousand_schedules(bug: type[World]) -> None:
    weather = Weather(seedless=0.0, pictures=0.0)
    assert any(bug(seed, weather).run() for seed in range(1_000))


@pytest.mark.parametrize("bug", [OldAddressIsSent, OneUploadForAll, EndsWhileItWaits])
def test_a_bug_in_sending_pictures_is_caught_within_a_thousand_schedules(bug: type[World]) -> None:
    assert any(bug(seed, Weather(pictures=1.0)).run() for seed in range(1_000))


TAKES = Weather(seedless=1.0, pictures=0.0, lost=0.4, stop=0.02, lateness=14.0, accidents=0.0)
"""Takes of one input, of which many creates have no answer."""


@pytest.mark.parametrize("seeds", chunks(1_000, 5_000, 1_000))
def test_takes_of_one_input_are_each_paid_once(seeds: range) -> None:
    broken = {seed: World(seed, TAKES).run() for seed in seeds}

    assert {seed: lines for seed, lines in broken.items() if lines} == {}


class OwnerlessLedger(MemoryLedger):
    def adopt(self, attempt: Attempt, *, holder: str, prediction_id: Any, reply: str) -> Adoption:
        if not self.renew(attempt, holder=holder):
            return Adoption.NOT_OURS
        state = self.accept(attempt, prediction_id=prediction_id, reply=reply)
        return Adoption.ADOPTED if state is State.ACCEPTED else Adoption.NOT_OURS

    def _is_taken(self, request_sha256: str, prediction: str | None) -> bool:
        return False


class IdsAreNotOwned(World):
    """Lets two takes hold one prediction: only the looking asks whose it is."""

    def make_ledger(self) -> Any:
        return OwnerlessLedger(clock=lambda: EPOCH + self.now, lease_seconds=self.policy.lease)


class AdoptsWithoutATransaction(World):
    """Decides by the list and by what was known before, and writes whatever is known by then."""

    def WriteFound(self, slot: Slot, effect: fx.WriteFound) -> tuple[float, Adoption]:
        self.ledger._ids.pop(effect.prediction.id, None)
        return super().WriteFound(slot, effect)


class OldOnesAreAdopted(World):
    """Never looks at when a prediction of its input was made."""

    def window(self, attempt: Attempt) -> float:
        return -FAR_AWAY


class TakesTheNewest(World):
    """Takes the newest prediction of its input, and leaves an older one to a take begun later."""

    oldest_first = False


class LostIdIsSentAgain(World):
    """Sends again when another take has adopted its prediction, and looks for no other one."""

    def WriteAccepted(self, slot: Slot, effect: fx.WriteAccepted) -> tuple[float, State]:
        delay, state = super().WriteAccepted(slot, effect)
        if state is State.INTENT:
            sha = REQUESTS[slot.request].request_sha256
            latest = self.ledger.find([sha])[sha]
            self.ledger.close(latest, State.UNSENT, holder=latest.holder)
        return delay, state


@pytest.mark.parametrize(
    "bug",
    [
        IdsAreNotOwned,
        AdoptsWithoutATransaction,
        OldOnesAreAdopted,
        TakesTheNewest,
        LostIdIsSentAgain,
    ],
)
def test_a_bug_in_settling_takes_is_caught_within_a_thousand_schedules(bug: type[World]) -> None:
    assert any(bug(seed, TAKES).run() for seed in range(1_000))
