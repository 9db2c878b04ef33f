"""Image records as JSON, for the ledger's rows: those of a finished attempt are one column of it.

Exact both ways. Fields at their defaults are left out, so that a row of the ledger stays small and
a record written before a field existed can still be read.
"""

import dataclasses
import json
from collections.abc import Iterable
from datetime import UTC, datetime

from flux_pipeline.lineage.record import ImageRecord, ImageStatus
from flux_pipeline.request import JsonValue

_TIMES = ("requested_at", "completed_at", "stored_at")
_DEFAULTS = tuple((field.name, field.default) for field in dataclasses.fields(ImageRecord))
_FIELDS = tuple(name for name, _ in _DEFAULTS)
_NAMES = frozenset(name for name, _ in _DEFAULTS)


def record_to_json(record: ImageRecord) -> str:
    """One record as one JSON object. Raises ValueError for a time without a zone."""
    return json.dumps(_to_object(record), ensure_ascii=False, separators=(",", ":"))


def record_from_json(text: str) -> ImageRecord:
    """The record that ``record_to_json`` wrote. Raises ValueError for anything else."""
    return _from_object(json.loads(text))


def record_values(record: ImageRecord) -> dict[str, JsonValue]:
    """Every field of a record by its name, as JSON has them: times as ISO 8601, missing as None."""
    values: dict[str, JsonValue] = {}
    for name in _FIELDS:
        value = getattr(record, name)
        values[name] = value.isoformat() if isinstance(value, datetime) else value
    return values


def records_to_json(records: Iterable[ImageRecord]) -> str:
    """Records as a JSON list. Raises ValueError for a time without a zone."""
    found = [_to_object(record) for record in records]
    return json.dumps(found, ensure_ascii=False, separators=(",", ":"))


def records_from_json(text: str) -> list[ImageRecord]:
    """The records that ``records_to_json`` wrote. Raises ValueError for anything else."""
    found = json.loads(text)
    if not isinstance(found, list):
        raise ValueError("image records: not a JSON list")  # noqa: TRY004 - the text is wrong
    return [_from_object(one) for one in found]


def _to_object(record: ImageRecord) -> dict[str, JsonValue]:
    found = {
        name: value
        for name, default in _DEFAULTS
        if (value := getattr(record, name)) is not default
    }
    for name in _TIMES:
        if time := found.get(name):
            if time.tzinfo is None:
                raise ValueError(f"image record: {name} has no time zone")
            found[name] = time.astimezone(UTC).isoformat()
    return found


def _from_object(found: object) -> ImageRecord:
    if not isinstance(found, dict):
        raise ValueError("image record: not a JSON object")  # noqa: TRY004 - the text is wrong
    if unknown := found.keys() - _NAMES:
        raise ValueError(
            f"image record: unknown fields {sorted(unknown)}; written by a later version"
        )
    for name in _TIMES:
        if time := found.get(name):
            found[name] = datetime.fromisoformat(time)
    try:
        found["status"] = ImageStatus(str(found.get("status")))
        return ImageRecord(**found)
    except TypeError as error:
        raise ValueError(f"image record: {error}") from None
