"""The lineage record: one row for every image asked for, stored or not.

The ledger keeps records too, as JSON, until their part of the table is written. That JSON is exact
both ways. It leaves fields at their defaults out, so that a row of the ledger stays small, and so
that records written before a field existed can still be read.
"""

import dataclasses
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from flux_pipeline.request import JsonValue

EMULATED = "emulator"
"""The provider of images that no model made: placeholders, which cost no money."""
TIMES = ("requested_at", "completed_at", "stored_at", "removed_at")
"""The fields that are times, in the order in which they happen."""
_REPRODUCTION = "reproduction-of-"
_OF_REPRODUCTION = re.compile(rf"{_REPRODUCTION}([0-9a-f]{{64}})")


class ImageStatus(StrEnum):
    """How an image that was asked for ended."""

    STORED = "stored"
    REFUSED = "refused"
    """The provider left it out, or refused the request: asking the same again gives the same."""
    FAILED = "failed"
    """It could not be made or kept; ``error`` says why."""
    REMOVED = "removed"
    """It was stored, and was removed on purpose since; ``error`` says why."""


WAS_STORED = frozenset({ImageStatus.STORED, ImageStatus.REMOVED})
"""Of these the record has the hashes, and the same picture can be made again and compared."""


class ContentCredentials(StrEnum):
    """What a stored file's content credentials (C2PA) are, and whose."""

    KEPT = "kept"
    """The provider's own: the file is as it was received, and our label is beside it."""
    OURS = "ours"
    """Ours; where the provider's was valid it is in there as the ingredient."""
    NONE = "none"
    """It has none."""
    INVALID = "invalid as received"
    """The provider's was broken before we touched the file, which is labelled like one without."""


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
    provider: str | None = None
    """The provider's host, or ``EMULATED``; None for rows from before there was this column."""
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
    input_images: str | None = None
    """The pictures that went in, as a JSON list of objects: ``name`` of the input, ``sha256`` of
    the file, ``uri`` in the store or the name of a file of somebody's own, and ``request_sha256``
    of the request that made it, or null. None without any, and for rows older than the column."""
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
    credentials: str | None = None
    """A value of ``ContentCredentials``; None for rows from before there was this column."""
    requested_at: datetime | None = None
    completed_at: datetime | None = None
    stored_at: datetime | None = None
    removed_at: datetime | None = None
    """When it was removed on purpose; ``uri`` says where it lay until then."""
    archived_uri: str | None = None
    """Where a copy of a removed image lies; None where there is none."""
    predict_seconds: float | None = None
    attempts: int = 0
    polls: int = 0
    cost_usd: float = 0.0
    """Estimate; the prediction's cost divided by the images asked for."""
    measured_usd: float | None = None
    """The same by the provider's metrics of the finished prediction, where they tell."""


_DEFAULTS = {field.name: field.default for field in dataclasses.fields(ImageRecord)}
"""Every field of a record; ``dataclasses.MISSING`` where it has no default."""
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def records_to_json(records: Iterable[ImageRecord]) -> str:
    """Records as a JSON list. Raises ValueError for a time without a zone."""
    return _ENCODER.encode([_to_object(record) for record in records])


def _to_object(record: ImageRecord) -> dict[str, JsonValue]:
    found = {
        name: value
        for name, default in _DEFAULTS.items()
        if (value := getattr(record, name)) is not default
    }
    for name in TIMES:
        if time := found.get(name):
            if time.tzinfo is None:
                raise ValueError(f"image record: {name} has no time zone")
            found[name] = time.astimezone(UTC).isoformat()
    return found


def records_from_json(text: str) -> list[ImageRecord]:
    """The records that ``records_to_json`` wrote. Raises ValueError for anything else."""
    found = json.loads(text)
    if not isinstance(found, list):
        raise ValueError("image records: not a JSON list")  # noqa: TRY004 - the text is wrong
    return [_from_object(one) for one in found]


def _from_object(found: object) -> ImageRecord:
    if not isinstance(found, dict):
        raise ValueError("image record: not a JSON object")  # noqa: TRY004 - the text is wrong
    if unknown := found.keys() - _DEFAULTS.keys():
        raise ValueError(
            f"image record: unknown fields {sorted(unknown)}; written by a later version"
        )
    for name in TIMES:
        if time := found.get(name):
            found[name] = datetime.fromisoformat(time)
    try:
        found["status"] = ImageStatus(str(found.get("status")))
        return ImageRecord(**found)
    except TypeError as error:
        raise ValueError(f"image record: {error}") from None


def record_values(record: ImageRecord) -> dict[str, JsonValue]:
    """Every field of a record by its name, as JSON has them: times as ISO 8601, missing as None."""
    values: dict[str, JsonValue] = {}
    for name in _DEFAULTS:
        value = getattr(record, name)
        values[name] = value.isoformat() if isinstance(value, datetime) else value
    return values


def object_metadata(record: ImageRecord, *, file_sha256: str) -> dict[str, str]:
    """The ids that are stored with an image's object, so that a lost lineage row can be made again.

    About 0.4 KB; what is None is left out. ``file_sha256`` is that of the bytes to be stored. The
    store checks that all of it is short ASCII.
    """
    found = {
        "image-sha256": record.image_sha256,
        "file-sha256": file_sha256,
        "prediction-id": record.prediction_id,
        "output-index": str(record.output_index),
        "request-sha256": record.request_sha256,
        "run-id": record.run_id,
        "config-sha256": record.config_sha256,
        "seed": None if record.seed is None else str(record.seed),
        "credentials": record.credentials,
    }
    return {name: value for name, value in found.items() if value}


def removed_record(
    record: ImageRecord, *, why: str, at: datetime, archived_uri: str | None
) -> ImageRecord:
    """The record of a stored image as it is once its object was removed on purpose."""
    status = ImageStatus.REMOVED
    return replace(record, status=status, error=why, removed_at=at, archived_uri=archived_uri)


def returned_record(record: ImageRecord, *, at: datetime) -> ImageRecord:
    """The record of a removed image whose object is there again; any other as it is.

    Its time is when it came back, so that its row supersedes the one that says it was removed.
    """
    if record.status is not ImageStatus.REMOVED:
        return record
    return replace(
        record,
        status=ImageStatus.STORED,
        error=None,
        stored_at=at,
        removed_at=None,
        archived_uri=None,
    )


def reproduction_partition(request_sha256: str) -> str:
    """The partition that every reproduction of a request has."""
    return f"{_REPRODUCTION}{request_sha256}"


def original_request(record: ImageRecord) -> str | None:
    """The fingerprint of the request that a record reproduces; None where it is an original."""
    found = _OF_REPRODUCTION.fullmatch(record.partition)
    return found[1] if found else None
