"""The ledger's seam: what was asked, accepted and finished, one row per (request, attempt).

Order of writes: intent, POST, accepted (id and reply), succeeded, image, stored, lineage, recorded.
Each is a single conditional write; every one can be repeated without effect. Every
implementation passes ``tests/ledger/contract.py``; the simulator runs the core against a third
one, in memory, that passes it too.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeAlias


class State(StrEnum):
    """Where an attempt stands."""

    INTENT = "intent"
    """About to be sent, or sent without an answer yet."""
    ACCEPTED = "accepted"
    """The provider's id is known; running or finished there."""
    SUCCEEDED = "succeeded"
    """Finished at the provider; outputs not yet stored."""
    STORED = "stored"
    """Every output is stored or named as refused."""
    REFUSED = "refused"
    """The provider will not make it; the same request is not sent again."""
    FAILED = "failed"
    """Over without an image; ``retryable`` says whether a new run may try again."""
    EXPIRED = "expired"
    """Paid, and its outputs were gone before they were stored."""
    HELD = "held"
    """May have been paid, id unknown, and nothing can prove it: waits for a person."""
    UNSENT = "unsent"
    """Proven never to have been accepted; free, and another attempt may follow."""
    RESENT = "resent"
    """Fate unknown, and sent again by policy: possibly paid twice, reported."""
    DUPLICATE = "duplicate"
    """Turned out accepted after another attempt had followed, or holds a second id of one attempt.

    Paid twice, reported; never the latest attempt.
    """

    @property
    def is_open(self) -> bool:
        """Whether work remains to be done for this attempt."""
        return self in _OPEN

    @property
    def may_be_followed(self) -> bool:
        """Whether another attempt of the same request may follow within the same run."""
        return self in _FOLLOWED


_FOLLOWED = frozenset({State.UNSENT, State.RESENT, State.DUPLICATE, State.FAILED, State.EXPIRED})
_OPEN = frozenset({State.INTENT, State.ACCEPTED, State.SUCCEEDED})


@dataclass(frozen=True, slots=True)
class Intent:
    """What is written before a request is sent: all that another worker needs to finish it."""

    request_sha256: str
    prompt_set: str
    run_id: str
    cost_micros: int
    """Estimate in millionths of a USD, reserved against every budget in the same transaction."""
    request_json: str
    """The whole Request, redacted nowhere: see ``ledger.codec``. Held in the database only."""


@dataclass(frozen=True, slots=True)
class Budget:
    """At most ``limit_micros`` under ``scope``, such as ``run:<id>`` or ``month:<set>:2026-11``."""

    scope: str
    limit_micros: int | None
    """None: counted, not limited."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One row: one paid (or possibly paid) try of one request."""

    request_sha256: str
    number: int
    """1-based."""
    state: State
    holder: str
    """The worker that claims it; compared, never interpreted."""
    claimed_at: float
    """Unix seconds by the ledger's clock."""
    intent_at: float
    """Unix seconds by the ledger's clock: when this attempt was first written."""
    intent: Intent
    prediction_id: str | None = None
    reply: str = field(default="", repr=False)
    """The provider's last reply as JSON, redacted."""
    error: str | None = None
    retryable: bool = False
    images: str = field(default="[]", repr=False)
    """The ImageRecords of a finished attempt, as JSON."""
    recorded: bool = False
    """Whether its lineage rows are in the store."""
    resolution: str | None = None
    """How an ambiguous create of this attempt ended."""
    claims: int = 1
    """How often it has been claimed: what an earlier claim's holder writes is told from ours."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """This worker may go on with the attempt.

    ``fresh``: the intent was written just now, nothing can have been sent. Otherwise it was taken
    over from a worker that is dead or whose lease has passed.
    """

    attempt: Attempt
    fresh: bool


@dataclass(frozen=True, slots=True)
class Busy:
    """Another worker holds it for at most ``seconds`` more."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Over:
    """The latest attempt is over (not open): nothing was written."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class OverBudget:
    """The intent was not written: ``scope`` has ``left_micros`` of ``limit_micros`` left."""

    scope: str
    limit_micros: int
    left_micros: int


Claim: TypeAlias = Claimed | Busy | Over | OverBudget


class Ledger(Protocol):
    """Blocking and thread-safe; every method is one transaction and raises LedgerError.

    ``holder`` names the calling worker. Methods that return ``bool`` are conditional writes: False
    means that the attempt is no longer this holder's, or no longer in the state named.
    """

    def find(self, request_sha256s: Sequence[str]) -> Mapping[str, Attempt]:
        """The latest attempt of each request that has one; a duplicate is never the latest."""
        ...

    def history(self, request_sha256: str) -> Sequence[Attempt]:
        """Every attempt of one request, by number: duplicates too."""
        ...

    def claim(
        self, intent: Intent, *, holder: str, after: int = 0, budgets: Sequence[Budget] = ()
    ) -> Claim:
        """Write the intent of a first attempt, or take over the open one, or say why not.

        ``after`` is the number of the closed attempt that a new one shall follow: one follows only
        where that is still the latest, its state may be followed, and, where it failed, it is
        retryable; else the answer is Over. Numbers grow, but duplicates take some of them. Budgets
        are reserved in the same transaction, and only where an intent is written.
        The trap: read the monotonic clock before this call, and send only while the lease, counted
        from there, outlasts the POST's timeout. To its own holder an open attempt is Busy too.
        """
        ...

    def renew(self, attempt: Attempt, *, holder: str) -> bool:
        """Start the lease of an open attempt anew, for the claim that ``attempt`` shows.

        True says that nobody has taken it over, and not that it may be sent: it may have been
        accepted meanwhile.
        """
        ...

    def accept(self, attempt: Attempt, *, prediction_id: str | None, reply: str) -> State:
        """Write down the provider's id, whoever holds the attempt now; return the new state.

        Never refused: an attempt that is missing (a restored backup) is written whole. ACCEPTED
        where no other attempt has followed (one that was closed is open again), or where it holds
        this very id already. DUPLICATE where another one has followed, or where it holds another
        id: the second one is kept in an attempt of its own and charged, because it was paid for.
        Creations without an id are told by their replies.
        """
        ...

    def succeed(self, attempt: Attempt, *, reply: str) -> bool:
        """ACCEPTED to SUCCEEDED, with the final reply."""
        ...

    def close(
        self,
        attempt: Attempt,
        state: State,
        *,
        holder: str,
        error: str | None = None,
        retryable: bool = False,
        images: str = "[]",
        reply: str | None = None,
        resolution: str | None = None,
    ) -> bool:
        """End the attempt in a closed state, or change HELD to another one.

        From INTENT only by the claim that ``attempt`` shows, and never as STORED or EXPIRED. From
        ACCEPTED or SUCCEEDED by anyone (finishing is harmless to repeat), but never as UNSENT,
        RESENT or HELD: who gives up an intent that was accepted meanwhile gets False. From HELD by
        who saw it held. UNSENT and REFUSED give the reserved budget back where nothing was
        accepted. Raises ValueError for an open state and for DUPLICATE.
        """
        ...

    def mark_recorded(self, request_sha256s: Sequence[str]) -> None:
        """Note that the lineage rows of these requests' latest attempts are in the store.

        Nothing happens to open ones. Any later change of an attempt takes the note away.
        """
        ...

    def unfinished(self, *, older_than: float = 0.0, limit: int = 1000) -> Sequence[Attempt]:
        """Open attempts, and closed ones without lineage, oldest intent first.

        Only latest attempts; of the closed ones those that have lineage rows: STORED, REFUSED,
        FAILED, EXPIRED. ``older_than``: seconds since the last claim, by the ledger's clock.
        """
        ...

    def in_state(self, state: State, *, limit: int = 1000) -> Sequence[Attempt]:
        """Attempts in one state, oldest first."""
        ...

    def spent_micros(self, scope: str) -> int:
        """What is reserved or spent under a budget scope, in millionths of a USD."""
        ...

    def known_ids(self, prediction_ids: Sequence[str]) -> set[str]:
        """Those of the ids that some attempt already holds."""
        ...

    def attempts(self) -> Iterator[Attempt]:
        """Every attempt of every request, ordered by request and number.

        Memory stays flat, whatever the size. The trap: what others write meanwhile may be missing.
        """
        ...


GIVEN_UP = frozenset({State.UNSENT, State.RESENT, State.DUPLICATE})
"""Closed in the belief that another attempt pays: an id that still turns up was paid besides."""
KNOWN = frozenset({State.ACCEPTED, State.SUCCEEDED})
"""Open, with a paid creation."""
FINISHED = frozenset({State.STORED, State.REFUSED, State.FAILED, State.EXPIRED})
"""Closed, and named in the lineage."""
_GIVES_BACK = frozenset({State.UNSENT, State.REFUSED})
_WITHOUT_ANSWER = frozenset({State.UNSENT, State.RESENT, State.HELD})
_PAID_FOR_SURE = frozenset({State.STORED, State.EXPIRED})
_NEVER_AFTER_HELD = frozenset({State.STORED, State.HELD})
_NOWHERE: frozenset[State] = frozenset()


def acceptance_of(prediction_id: str | None, reply: str) -> str:
    """Return what tells one paid creation from another, also where the reply has no id."""
    if prediction_id is not None:
        return prediction_id
    return f"reply:{hashlib.sha256(reply.encode()).hexdigest()}"


def is_charged(state: State, *, accepted: bool) -> bool:
    """Return whether an attempt's cost counts in its budgets."""
    return accepted or state not in _GIVES_BACK


def state_when_accepted(state: State, held: str | None, new: str, *, latest: bool) -> State | None:
    """Return the state of an attempt in which a creation was accepted.

    None where it holds another creation: the new one is then kept in an attempt of its own.
    A closed attempt that no other one has followed is open again, because its images can still be
    had for the money: also one that was given up, and only then a duplicate is avoided.
    """
    if held is None:
        return State.ACCEPTED if latest else State.DUPLICATE
    if held != new:
        return None
    return State.DUPLICATE if state in GIVEN_UP else state


def may_follow(latest: Attempt, after: int) -> bool:
    """Return whether a new attempt may follow the latest one, of which the caller knows.

    The caller may have seen it in another state: what was stored or refused since then is over.
    What is held waits for a person: close it as unsent or resent first, so that it is accounted
    for.
    """
    over = latest.state is State.FAILED and not latest.retryable
    return latest.number == after and latest.state.may_be_followed and not over


def state_when_lost(attempt: Attempt, latest: Attempt | None) -> State:
    """Return the state of an accepted attempt that the ledger itself has lost."""
    if latest is None or (latest.number < attempt.number and not latest.state.is_open):
        return State.ACCEPTED
    return State.DUPLICATE


def states_to_close(seen: State, target: State) -> frozenset[State]:
    """Return the states from which an attempt may be closed by somebody who saw it in ``seen``.

    An attempt that has been accepted is never given up as unsent, resent or held, whatever its
    closer believes; and only an accepted one can be stored. What is held is changed by those who
    saw it held, and not by a worker that is late.

    Raises:
        ValueError: Where the target is no state that a caller may close an attempt in.
    """
    if target.is_open or target is State.DUPLICATE:
        raise ValueError(f"an attempt can't be closed as {target.value}")
    if seen is State.HELD:
        return _NOWHERE if target in _NEVER_AFTER_HELD else frozenset({State.HELD})
    if not seen.is_open:
        return _NOWHERE
    if target in _WITHOUT_ANSWER:
        return frozenset({State.INTENT}) if seen is State.INTENT else _NOWHERE
    return KNOWN if target in _PAID_FOR_SURE else KNOWN | {State.INTENT}
