"""The effects that the core yields: each is one call to the outside, with one outcome.

The handler performs them over sockets, disks and a database, the simulator on a virtual clock.
Every effect is harmless to repeat or is a conditional write, with one exception: Send. That is why
the intent is written before it and its answer after it.
"""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from flux_pipeline.ledger.base import Attempt, State
from flux_pipeline.lineage.record import ImageRecord
from flux_pipeline.prediction import Output, Prediction


@dataclass(frozen=True, slots=True)
class FindStored:
    """Look for an image of this request in the store. Outcome: None, or ``Stopped`` if there is.

    Asked where the ledger knows nothing of a request: one that was restored from an old backup has
    forgotten what was paid since.
    """


@dataclass(frozen=True, slots=True)
class PrepareInput:
    """Bring the request's pictures where the provider can read them, and look up its secrets.

    Outcome: None, or ``NotReady``. Nothing of it is paid for.
    """


@dataclass(frozen=True, slots=True)
class AwaitPermit:
    """Wait until the limiter allows one create. Outcome: None, or ``Stopped``."""


@dataclass(frozen=True, slots=True)
class ClaimAttempt:
    """Write the intent, or take over what is open. Outcome: ``ledger.Claim``."""

    after: int


@dataclass(frozen=True, slots=True)
class RenewClaim:
    """Start the lease anew. Outcome: bool."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Send:
    """POST the request, unless the monotonic clock has passed ``not_after``.

    Outcome: ``CreateOutcome``; NeverSent where the time had passed, or where the address of a
    picture is about to end.
    """

    attempt: Attempt
    not_after: float


@dataclass(frozen=True, slots=True)
class WriteAccepted:
    """Write the provider's id before anything else happens. Outcome: ``State``.

    INTENT where another take of the same input has adopted this prediction.
    """

    attempt: Attempt
    prediction: Prediction


@dataclass(frozen=True, slots=True)
class WriteFound:
    """Write the id that the list showed, if the attempt is still ours and unanswered.

    Outcome: ``ledger.Adoption``. What the list shows may be a later attempt's, or another take's of
    the same input: only the holder may take it, and only where nobody has it.
    """

    attempt: Attempt
    prediction: Prediction


@dataclass(frozen=True, slots=True)
class WriteSucceeded:
    """Write the final reply. Outcome: bool."""

    attempt: Attempt
    prediction: Prediction


@dataclass(frozen=True, slots=True)
class Close:
    """End the attempt. Outcome: bool, False where it is no longer ours to end."""

    attempt: Attempt
    state: State
    error: str | None = None
    retryable: bool = False
    records: tuple[ImageRecord, ...] = field(default=(), repr=False)
    resolution: str | None = None


@dataclass(frozen=True, slots=True)
class ReadHistory:
    """Every attempt of this request. Outcome: sequence of ``Attempt``."""


@dataclass(frozen=True, slots=True)
class TakeResend:
    """Ask whether this run may send one more request whose fate is unknown. Outcome: bool."""


@dataclass(frozen=True, slots=True)
class FindInList:
    """Look for the attempt in a reading of the provider's list begun now. Outcome: FindOutcome."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class AwaitPoll:
    """Wait until the next poll is due. Outcome: bool, False where it is to be asked again.

    It is, before the claim's lease ends, and when it has become known how long the model takes.
    """

    elapsed: float
    """Seconds from when the prediction was accepted or taken over to the beginning of this wait."""
    polls: int
    waited: float = 0.0
    """Seconds since then, where it is asked again."""
    age: float = 0.0
    """Seconds from when it was sent by an earlier run to when it was taken over."""


@dataclass(frozen=True, slots=True)
class Poll:
    """GET the prediction. Outcome: ``PollOutcome``."""

    prediction_id: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """Cancel the prediction and say how it stands. Outcome: ``PollOutcome``."""

    prediction_id: str


@dataclass(frozen=True, slots=True)
class StoreOutput:
    """Download, decode, hash, label and store one output. Outcome: ``StoreOutcome``."""

    attempt: Attempt
    prediction: Prediction
    output: Output
    polls: int
    tries_left: int = 0
    """Within this run, where the same call may help or the store fails."""
    is_patient: bool = False
    """Whether an output that is not there yet is asked for again in this run."""

    def is_last_try(self, because: str) -> bool:
        """Whether a failure of this kind leaves the output for a later run."""
        return not self.is_patient if because == "gone" else self.tries_left <= 0


@dataclass(frozen=True, slots=True)
class FindImage:
    """Find an image of a prediction whose outputs are gone: in the spool, or stored already.

    Outcome: ``StoreOutcome``; ``NotStored`` with ``store`` where the store fails, and with
    ``removed`` where there is no such image.
    """

    attempt: Attempt
    prediction: Prediction
    index: int
    polls: int


@dataclass(frozen=True, slots=True)
class EndRemoval:
    """End a removal whose worker is gone. Outcome: ``Attempt`` as it is then, or ``NotReady``."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class BringBack:
    """Store images again that were removed and archived, which costs nothing.

    Outcome: ``Attempt`` as it is then; ``NotReady`` where the archive can't be asked; a sentence
    where the copies are gone; None where there were none.
    """

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait. Outcome: None."""

    seconds: float


Effect: TypeAlias = (
    FindStored
    | PrepareInput
    | AwaitPermit
    | ClaimAttempt
    | RenewClaim
    | Send
    | WriteAccepted
    | WriteFound
    | WriteSucceeded
    | Close
    | ReadHistory
    | TakeResend
    | FindInList
    | AwaitPoll
    | Poll
    | Cancel
    | StoreOutput
    | FindImage
    | EndRemoval
    | BringBack
    | Sleep
)


@dataclass(frozen=True, slots=True)
class NotReady:
    """The request can't be sent in this run: a picture, a secret or its model is not to be had."""

    reason: str


@dataclass(frozen=True, slots=True)
class Stored:
    """The image is in the store."""

    record: ImageRecord
    thumbnail: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class NotStored:
    """The image is not in the store.

    ``because`` says what may help: ``again`` the same call, ``gone`` a new URL from the provider
    or some time, ``refused`` a person who changes a setting, ``store`` a working store, or a key
    that signs; ``removed`` nothing, because the provider says that it has deleted the output.
    """

    because: Literal["again", "gone", "refused", "store", "removed"]
    reason: str


StoreOutcome: TypeAlias = Stored | NotStored
