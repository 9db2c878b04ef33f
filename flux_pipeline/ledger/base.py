"""The ledger's interface and rules: attempts, their states, claims, and what may follow what.

An attempt is one try of one request: sent to the provider, paid or possibly paid. A row is written
before the request is sent, so that no crash loses an attempt that may have been paid. The order of
writes is: intent, POST, accepted (id and reply), succeeded, image, stored, lineage, recorded. Each
is a single conditional write that can be repeated without effect.

Every implementation passes ``tests/ledger/contract.py``: SQLite, Postgres, and one in memory on
which the simulator of the tests runs the core.
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
    """Found to be accepted after another attempt had followed, or holds a second id of one attempt.

    Paid twice, reported; never the latest attempt.
    """
    PRUNING = "pruning"
    """Was stored; its images are being removed on purpose, or brought back from an archive."""
    PRUNED = "pruned"
    """Was stored, and its images were removed on purpose; asked for again, it is made again."""

    @property
    def is_open(self) -> bool:
        """Whether work remains to be done for this attempt."""
        return self in _OPEN

    @property
    def may_be_followed(self) -> bool:
        """Whether another attempt of the same request may follow within the same run."""
        return self in _FOLLOWED


_UNDER_WAY = frozenset({State.INTENT, State.ACCEPTED, State.SUCCEEDED})
_OPEN = _UNDER_WAY | {State.PRUNING}
_FOLLOWED = frozenset(
    {State.UNSENT, State.RESENT, State.DUPLICATE, State.FAILED, State.EXPIRED, State.PRUNED}
)


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
    input_sha256: str = ""
    """What the provider is sent, as 64 hex digits, where other requests may send the same: takes of
    one input, of a model without a seed. Empty where the input is this request's alone."""


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
    """How often it has been claimed: tells this claim from an earlier one of the same holder."""
    steady_age: float | None = field(default=None, compare=False)
    """Seconds from the intent to the claim that returned this, on a clock that can't jump; None
    where another host or boot wrote the intent, and where no claim returned this."""

    @property
    def age(self) -> float:
        """Seconds from the intent to the last claim, by the best clock that the ledger has.

        Below 0 where a wall clock was set back and there is no better one.
        """
        return self.claimed_at - self.intent_at if self.steady_age is None else self.steady_age


@dataclass(frozen=True, slots=True)
class Claimed:
    """The caller holds the attempt and may go on with it.

    ``fresh``: the intent was written just now, so nothing can have been sent. Otherwise the attempt
    was taken over from a worker that is dead or whose lease has passed.
    """

    attempt: Attempt
    fresh: bool


@dataclass(frozen=True, slots=True)
class Busy:
    """Another worker holds the attempt for at most ``seconds`` more."""

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


class Adoption(StrEnum):
    """What became of an id that the provider's list showed."""

    ADOPTED = "adopted"
    """The attempt holds it now."""
    HELD = "held"
    """The attempt holds it already: its answer came meanwhile."""
    TAKEN = "taken"
    """Another attempt holds it: look for another one."""
    NOT_OURS = "not ours"
    """The attempt is no longer this holder's, or has another id by now."""


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

        ``after`` is the number of the closed attempt that a new one shall follow. A new one follows
        only where that is still the latest, its state may be followed, and, where it failed, it is
        retryable; else the answer is Over. Numbers grow, but duplicates take some of them. Budgets
        are reserved in the same transaction, and only where an intent is written.

        The trap: read the monotonic clock before this call, and send only while the lease, counted
        from there, outlasts the POST's timeout. An open attempt is Busy for its own holder too.
        """
        ...

    def renew(self, attempt: Attempt, *, holder: str) -> bool:
        """Start the lease of an open attempt anew, for the claim that ``attempt`` shows.

        True says that nobody has taken it over. It does not say that the request may be sent: the
        attempt may have been accepted meanwhile.
        """
        ...

    def accept(self, attempt: Attempt, *, prediction_id: str | None, reply: str) -> State:
        """Write down the provider's id, whoever holds the attempt now; return the new state.

        An attempt that is missing (a restored backup) is written whole. ACCEPTED where no other
        attempt has followed (a closed attempt is then open again), or where it holds this very id
        already. DUPLICATE where another one has followed, or where it holds another id: the second
        id is kept in an attempt of its own and charged, because it was paid for. Creations without
        an id are told apart by their replies.

        INTENT where the id is another request's (``is_left_to_another``): it is not written here.
        An attempt without an answer then has none still, and can be claimed at once, because there
        may be another prediction of its input to be found.
        """
        ...

    def adopt(
        self, attempt: Attempt, *, holder: str, prediction_id: str | None, reply: str
    ) -> Adoption:
        """Write down an id that the provider's list showed, and start the lease anew.

        Only for an attempt that is still this claim's and has no answer, and only where no attempt
        of any request holds the id: several takes of one input may look for theirs at once.
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
        RESENT or HELD: a caller that gives up an intent which was accepted meanwhile gets False.
        From HELD only by a caller whose ``attempt`` shows HELD. From PRUNING only as STORED or
        PRUNED, by the claim that ``attempt`` shows; PRUNED from there alone. UNSENT and REFUSED
        give the reserved budget back where nothing was accepted.

        Raises ValueError for an open state and for DUPLICATE.
        """
        ...

    def allow_retry(self, attempt: Attempt) -> bool:
        """Let another attempt follow a FAILED or REFUSED one, as a person or a policy decides.

        A refused one becomes FAILED and retryable. False where it is no longer the latest one, or
        in neither state. What it cost stays counted.
        """
        ...

    def reopen(self, attempt: Attempt) -> bool:
        """Open a closed attempt whose prediction is known by id: EXPIRED or FAILED to ACCEPTED.

        For what was believed to be gone: it is fetched by id again, and nothing is created. False
        where it is no longer the latest one, in neither state, or without an id.
        """
        ...

    def begin_pruning(self, attempt: Attempt, *, holder: str, images: str) -> Attempt | None:
        """Claim a STORED attempt to remove its images, or a PRUNED one to bring them back.

        It is PRUNING then, with a lease, so that nobody asks for it again meanwhile; ``images`` are
        the records as they are to be when all is removed. None where it is no longer the latest
        attempt or no longer as ``attempt`` shows it, or stored and without its lineage rows.
        """
        ...

    def mark_recorded(self, request_sha256s: Sequence[str]) -> None:
        """Note that the lineage rows of these requests' latest attempts are in the store.

        Open attempts are left as they are. Any later change of an attempt takes the note away.
        """
        ...

    def unfinished(self, *, older_than: float = 0.0, limit: int = 1000) -> Sequence[Attempt]:
        """Open attempts, and closed ones without lineage, oldest intent first.

        Only latest attempts; of the closed ones those that have lineage rows: STORED, REFUSED,
        FAILED, EXPIRED. ``older_than``: seconds since the last claim, by the ledger's clock; those
        whose process is known to be gone are given however young they are.
        """
        ...

    def in_state(self, state: State, *, limit: int = 1000) -> Sequence[Attempt]:
        """Attempts in one state, oldest first."""
        ...

    def spent_micros(self, scope: str) -> int:
        """What is reserved or spent under a budget scope, in millionths of a USD."""
        ...

    def known_ids(self, prediction_ids: Sequence[str]) -> set[str]:
        """The ids among these that some attempt already holds."""
        ...

    def ids_of_input(self, input_sha256: str) -> set[str]:
        """The ids that attempts with this ``Intent.input_sha256`` hold."""
        ...

    def attempts(self) -> Iterator[Attempt]:
        """Every attempt of every request, ordered by request and number.

        Memory stays flat at any size. The trap: attempts written meanwhile may be missing.
        """
        ...


GIVEN_UP = frozenset({State.UNSENT, State.RESENT, State.DUPLICATE})
"""Closed in the belief that another attempt pays: an id that still turns up was paid besides."""
FINISHED = frozenset({State.STORED, State.REFUSED, State.FAILED, State.EXPIRED})
"""Closed, and named in the lineage."""
_OPEN_AND_PAID = frozenset({State.ACCEPTED, State.SUCCEEDED})
_GIVES_BACK = frozenset({State.UNSENT, State.REFUSED})
_WITHOUT_ANSWER = frozenset({State.UNSENT, State.RESENT, State.HELD})
CLAIMED_ALONE = frozenset({State.INTENT, State.PRUNING})
"""States that only the claim may end, because a late holder would undo what another has done."""
_PAID_FOR_SURE = frozenset({State.STORED, State.EXPIRED})
_NEVER_AFTER_HELD = frozenset({State.STORED, State.HELD, State.PRUNED})
_NONE: frozenset[State] = frozenset()


def acceptance_of(prediction_id: str | None, reply: str) -> str:
    """Return the identity of a paid creation: its id, or a hash of a reply that has none."""
    if prediction_id is not None:
        return prediction_id
    return f"reply:{hashlib.sha256(reply.encode()).hexdigest()}"


def is_charged(state: State, *, accepted: bool) -> bool:
    """Return whether an attempt's cost counts in its budgets."""
    return accepted or state not in _GIVES_BACK


def state_when_accepted(state: State, held: str | None, new: str, *, latest: bool) -> State | None:
    """Return the new state of an attempt, in ``state`` so far, whose creation was accepted.

    ``held`` and ``new`` are what ``acceptance_of`` says of the creation that the attempt holds and
    of the one just accepted. None where they differ: the new one is kept in an attempt of its own.
    A closed attempt that no other one has followed is open again, because its images can still be
    had for the money: also one that was given up, which avoids a duplicate.
    """
    if held is None:
        return State.ACCEPTED if latest else State.DUPLICATE
    if held != new:
        return None
    return State.DUPLICATE if state in GIVEN_UP else state


WITHOUT_ID = frozenset({State.INTENT, State.HELD})
"""States of an attempt that may have been accepted, by an id that is not known."""


def is_left_to_another(held: str | None, new: str, *, is_taken: bool, is_awaited: bool) -> bool:
    """Return whether an accepted creation is not written to the attempt that was sent.

    ``held`` and ``new`` are as in ``state_when_accepted``. Takes of one input can't be told apart
    in the provider's list, so one that settles may adopt the prediction of another, whose answer is
    still under way. ``is_taken``: an attempt of another request holds it; one prediction makes one
    image. ``is_awaited``: this attempt has adopted one already, and an attempt of another request
    with the same input, whose prediction that may have been, is without an id: it will find this
    one in the list.
    """
    return is_taken or (is_awaited and held not in (None, new))


def may_follow(latest: Attempt, after: int) -> bool:
    """Return whether a new attempt may follow the latest one, of which the caller knows.

    The caller may have seen it in another state: an attempt that was stored or refused since then
    is over. A held one waits for a person: close it as unsent or resent first, so that it is
    accounted for.
    """
    over = latest.state is State.FAILED and not latest.retryable
    return latest.number == after and latest.state.may_be_followed and not over


def state_when_lost(attempt: Attempt, latest: Attempt | None) -> State:
    """Return the state of an accepted attempt whose row the ledger has lost."""
    if latest is None or (latest.number < attempt.number and not latest.state.is_open):
        return State.ACCEPTED
    return State.DUPLICATE


def states_to_close(seen: State, target: State) -> frozenset[State]:
    """Return the states from which a caller that saw an attempt in ``seen`` may close it.

    An attempt that has been accepted is never given up as unsent, resent or held, whatever the
    caller believes; and only an accepted one can be stored. A held attempt is changed by callers
    that saw it held, and not by a worker that is late.

    Raises:
        ValueError: Where the target is no state that a caller may close an attempt in.
    """
    if target.is_open or target is State.DUPLICATE:
        raise ValueError(f"an attempt can't be closed as {target.value}")
    if seen is State.HELD:
        return _NONE if target in _NEVER_AFTER_HELD else frozenset({State.HELD})
    if seen is State.PRUNING or target is State.PRUNED:
        ends = seen is State.PRUNING and target in {State.STORED, State.PRUNED}
        return frozenset({State.PRUNING}) if ends else _NONE
    if not seen.is_open:
        return _NONE
    if target in _WITHOUT_ANSWER:
        return frozenset({State.INTENT}) if seen is State.INTENT else _NONE
    return _OPEN_AND_PAID if target in _PAID_FOR_SURE else _UNDER_WAY
