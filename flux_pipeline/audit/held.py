"""What is held - may have been paid, and nothing can prove it - listed, and ended by a person."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from flux_pipeline.errors import LedgerError
from flux_pipeline.ledger.base import Attempt, Ledger, State
from flux_pipeline.ledger.codec import load_request
from flux_pipeline.lineage.record import ImageStatus, records_to_json
from flux_pipeline.produce.policy import RunContext
from flux_pipeline.produce.records import build_record
from flux_pipeline.request import Request

MOST = 10_000
"""Listed at once, the oldest."""
_HOLDER = "held"
"""What is held belongs to nobody, so any name may close it."""


@dataclass(frozen=True, slots=True)
class Held:
    """One attempt that waits for a person."""

    attempt: Attempt
    request: Request | None = field(repr=False)
    """None where the ledger's copy can't be read."""

    @property
    def request_sha256(self) -> str:
        """64 hex digits."""
        return self.attempt.request_sha256

    @property
    def prompt(self) -> str:
        """As it was sent."""
        return str(self.request.input.get("prompt", "")) if self.request else ""

    @property
    def since(self) -> datetime:
        """When it was sent, UTC."""
        return datetime.fromtimestamp(self.attempt.intent_at, UTC)

    @property
    def usd(self) -> float:
        """What it cost if it was accepted, by estimate."""
        return self.attempt.intent.cost_micros / 1e6


def find_held(ledger: Ledger) -> list[Held]:
    """Everything that is held, oldest first."""
    return [_read(attempt) for attempt in ledger.in_state(State.HELD, limit=MOST)]


def resend(ledger: Ledger, held: Iterable[Held]) -> list[Held]:
    """Let the next run send them again; return those that were still held.

    What they may have cost stays counted, and each counts as possibly paid twice.
    """
    return [
        each
        for each in held
        if ledger.close(
            each.attempt,
            State.RESENT,
            holder=_HOLDER,
            error="given up by hand; the next run sends it again",
            resolution="resent by hand",
        )
    ]


def drop(ledger: Ledger, held: Iterable[Held]) -> list[Held]:
    """Give them up for good, with a record for each image; return those that were still held.

    The same request is not sent again. The next run or rescue writes the records to the lineage
    table.
    """
    return [
        each
        for each in held
        if ledger.close(
            each.attempt,
            State.FAILED,
            holder=_HOLDER,
            error=_DROPPED,
            retryable=False,
            images=_records(each),
            resolution="dropped by hand",
        )
    ]


def choose(known: Sequence[Held], names: Sequence[str]) -> tuple[list[Held], list[str]]:
    """The held requests whose fingerprints begin with the names, and the names that fit not one.

    All where no name is given.
    """
    if not names:
        return list(known), []
    chosen: dict[str, Held] = {}
    wrong = []
    for name in names:
        found = [each for each in known if each.request_sha256.startswith(name.lower())]
        if len(found) == 1:
            chosen[found[0].request_sha256] = found[0]
        else:
            wrong.append(name)
    return list(chosen.values()), wrong


_DROPPED = "dropped by hand: it may have been paid, and is not looked for any more"


def _read(attempt: Attempt) -> Held:
    try:
        return Held(attempt, load_request(attempt.intent.request_json))
    except LedgerError:
        return Held(attempt, None)


def _records(held: Held) -> str:
    request = held.request
    if request is None:
        return "[]"
    run = RunContext(held.attempt.intent.run_id, f"{request.source.prompt_set}/images")
    return records_to_json(
        build_record(
            request,
            run,
            index=index,
            status=ImageStatus.FAILED,
            error=_DROPPED,
            attempt=held.attempt,
        )
        for index in range(request.outputs)
    )
