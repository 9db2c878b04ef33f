"""The lineage record: one row for every image asked for, stored or not."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ImageStatus(StrEnum):
    """How an image that was asked for ended."""

    STORED = "stored"
    REFUSED = "refused"
    """The provider left it out, or refused the request: asking the same again gives the same."""
    FAILED = "failed"
    """It could not be made or kept; ``error`` says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecord:
    """One image asked for: its identity, its cause, the run that paid, and the result.

    Times are UTC. ``image_sha256`` covers the coded pixels alone and survives any change of
    metadata; ``file_sha256`` covers the stored bytes; ``dhash`` is a 64-bit difference hash.
    """

    # identity
    image_sha256: str | None = None
    file_sha256: str | None = None
    dhash: int | None = None
    prediction_id: str | None
    output_index: int
    request_sha256: str
    # cause
    prompt_set: str
    prompt_name: str
    take: int
    partition: str
    model: str
    version: str
    served_version: str | None = None
    prompt: str
    hf_lora: str | None = None
    lora_scale: float | None = None
    aspect_ratio: str | None = None
    num_inference_steps: int | None = None
    num_outputs: int
    seed: int | None = None
    seed_source: str
    """``request``, ``log`` or ``unknown``."""
    input: str
    """The input that was sent, redacted, as canonical JSON."""
    # run
    run_id: str
    asset: str
    config_path: str
    config_sha256: str
    code_version: str
    # result
    status: ImageStatus
    error: str | None = None
    uri: str | None = None
    format: str
    width: int | None = None
    """px"""
    height: int | None = None
    """px"""
    bytes: int | None = None
    requested_at: datetime | None = None
    completed_at: datetime | None = None
    stored_at: datetime | None = None
    predict_seconds: float | None = None
    attempts: int = 0
    polls: int = 0
    cost_usd: float = 0.0
    """Estimate; the prediction's cost divided by the images asked for."""
