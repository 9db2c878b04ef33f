"""Outcomes of calls to the provider, as values: the client returns them, the core reads them.

The client never raises for an answer. So the one question that costs money (was this create never
sent, was it refused, or may it have been accepted?) is answered in one place,
``provider.classify``, and read in one place, ``produce.core``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from flux_pipeline.prediction import Prediction


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider made a prediction; ``prediction.id`` is None for the ``data[]`` shape."""

    prediction: Prediction


@dataclass(frozen=True, slots=True)
class NeverSent:
    """Nothing of the request left this machine (DNS, connect, TLS, pool): it may be sent again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Throttled:
    """429: no prediction exists; ``retry_after`` is the hint in seconds, 0 where there was none."""

    retry_after: float


@dataclass(frozen=True, slots=True)
class Refused:
    """This request's input is refused (422, or an error about it); no prediction exists."""

    code: int
    detail: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """The call itself is refused (400, 404, 405, 413, 415, …): the address or the body's form.

    No prediction exists, and nothing is said about the input: the same request may be accepted once
    the configuration is right.
    """

    code: int
    detail: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """Not sent, because this run creates nothing more; ``kind`` is a value of ``report.Stop``."""

    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class AccessDenied:
    """401, 402 or 403: no request will be accepted; the run stops and the ledger stays."""

    code: int
    detail: str


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """A prediction may exist whose id we don't know: never sent again without being settled."""

    reason: str


CreateOutcome: TypeAlias = (
    Accepted | NeverSent | Throttled | Refused | Rejected | Stopped | AccessDenied | Ambiguous
)


@dataclass(frozen=True, slots=True)
class Polled:
    """The prediction as it is now."""

    prediction: Prediction


@dataclass(frozen=True, slots=True)
class PollFailed:
    """No answer that means anything (5xx, 429, reset, no JSON): ask again, never create again."""

    reason: str
    retry_after: float = 0.0


@dataclass(frozen=True, slots=True)
class Gone:
    """404 for an id that was accepted."""

    reason: str


PollOutcome: TypeAlias = Polled | PollFailed | Gone | AccessDenied


@dataclass(frozen=True, slots=True)
class Found:
    """The provider's list holds a prediction with exactly this version and input."""

    prediction: Prediction


@dataclass(frozen=True, slots=True)
class Absent:
    """The provider's list was read whole and holds no such prediction."""


@dataclass(frozen=True, slots=True)
class NoList:
    """This provider has no list, or it doesn't reach back far enough: nothing can be proven."""


@dataclass(frozen=True, slots=True)
class ListFailed:
    """The list could not be read this time."""

    reason: str
    retry_after: float = 0.0


FindOutcome: TypeAlias = Found | Absent | NoList | ListFailed | AccessDenied


@dataclass(frozen=True, slots=True)
class Uploaded:
    """The provider keeps a file for a while; it costs nothing, and may be done again."""

    id: str
    """Empty where the reply names none."""
    url: str = field(repr=False)
    """What an input names: https, or at the provider's own origin. Only those who have the key may
    be able to read it."""
    expires_at: datetime | None
    """When the provider deletes it; None where the reply does not say."""
    sha256: str
    """64 hex digits, of the bytes that were sent."""


@dataclass(frozen=True, slots=True)
class UploadFailed:
    """The file is not there, or nothing says where; nothing was paid."""

    reason: str
    retry: bool
    """Whether the same upload may succeed later."""
    retry_after: float = 0.0
    """s; the hint, 0 where there was none."""


@dataclass(frozen=True, slots=True)
class NoFiles:
    """This provider takes no files by ``POST /v1/files``."""

    reason: str


UploadOutcome: TypeAlias = Uploaded | UploadFailed | NoFiles


@dataclass(frozen=True, slots=True)
class NoModel:
    """The provider knows no such model or version, or tells nothing of models."""

    reason: str


@dataclass(frozen=True, slots=True)
class ModelFailed:
    """The model could not be read this time."""

    reason: str
    retry_after: float = 0.0


ModelOutcome: TypeAlias = Mapping[str, Any] | NoModel | ModelFailed | AccessDenied
"""The reply's JSON object, or why there is none."""
