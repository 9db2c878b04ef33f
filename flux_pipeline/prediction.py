"""A prediction as the provider reports it, whatever shape its reply had.

The status words are the API's own. The two reply shapes without an id or a status (``data[]`` of
the seed document, and an ``error`` object) are turned into this value, or into a refusal, by
``provider.parse`` and nowhere else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from flux_pipeline.request import JsonValue


class Status(StrEnum):
    """What a prediction is doing; an unknown word counts as still running."""

    STARTING = "starting"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    ABORTED = "aborted"
    UNKNOWN = "unknown"

    @property
    def is_final(self) -> bool:
        """Whether the provider will change nothing more."""
        return self in _FINAL


_FINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELED, Status.ABORTED})


@dataclass(frozen=True, slots=True)
class Output:
    """One image of a prediction: its batch number, and where its bytes are."""

    index: int
    """0-based, from the file name ``out-N``; the list position only where no name tells."""
    url: str = field(repr=False)
    """An http(s) URL or a ``data:`` URI. May hold a signature: never logged."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One prediction at one moment."""

    id: str | None
    """None for the ``data[]`` shape, which has no id and is finished."""
    status: Status
    outputs: tuple[Output, ...] = ()
    model: str = ""
    version: str = ""
    """The version that served it; may differ from the one asked for."""
    input: Mapping[str, JsonValue] = field(default_factory=dict, hash=False)
    error: str | None = None
    logs: str = field(default="", repr=False)
    created_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    predict_seconds: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict, hash=False)
    """What the provider has counted, by its own names: seconds, images, megapixels. Only numbers
    from 0 on."""
    data_removed: bool = False
    raw: str = field(default="", repr=False)
    """The reply's JSON with data URIs cut out and secrets redacted, for the ledger."""
