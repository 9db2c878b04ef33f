"""One stored object back to the lineage record that it was made with, from the file alone."""

import json
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

from flux_pipeline.errors import ImageError
from flux_pipeline.images.formats import detect_format, image_sha256
from flux_pipeline.images.labels import Label, read_label
from flux_pipeline.lineage.record import ImageRecord, ImageStatus
from flux_pipeline.lineage.schema import records_to_batch
from flux_pipeline.produce.ingest import image_key
from flux_pipeline.request import JsonValue, Request, Source
from flux_pipeline.store.base import StoredObject

_NAMES = frozenset(field.name for field in fields(ImageRecord))
_LABELLED = _NAMES & {field.name for field in fields(Label)}
_TIMES = ("requested_at", "completed_at")
_LEFT_OUT = (
    "no such object when the ledger was rebuilt: the provider had left it out, or it was lost"
)


def rebuild_record(stored: StoredObject, body: bytes) -> ImageRecord:
    """The record of a stored image, from its label.

    Exact but for what is not in the file: ``stored_at`` and ``polls`` are lost, ``attempts`` counts
    the one that made it, and a prompt that was kept out of the file is empty.

    Raises:
        ImageError: The file is broken, has no label of ours, or is not what its label says.
    """
    label = read_label(body)
    if label is None:
        raise ImageError("it has no label of this pipeline: was it put there by something else?")
    if label.image_sha256 != image_sha256(body):
        raise ImageError("its pixels are not those of its label: somebody edited it")
    if stored.metadata.get("request-sha256", label.request_sha256) != label.request_sha256:
        raise ImageError("its metadata and its label name different requests")
    record = replace(
        _record(label, detect_format(body)),
        file_sha256=stored.sha256,
        uri=stored.uri,
        bytes=stored.size,
    )
    if (key := image_key(rebuild_request(record), record.output_index)) != stored.key:
        raise ImageError(f"it belongs under {key}, by its label: was it copied?")
    return record


def rebuild_request(record: ImageRecord) -> Request:
    """The request of a record, with the input redacted: it is made already, and not sent again."""
    given = json.loads(record.input)
    return Request(
        model=record.model,
        version=record.version,
        input=given,
        request_sha256=record.request_sha256,
        outputs=record.num_outputs,
        width=record.width or 0,
        height=record.height or 0,
        image_format=record.format,
        cost_usd=record.cost_usd * record.num_outputs,
        source=Source(
            prompt_set=record.prompt_set,
            prompt_name=record.prompt_name,
            take=record.take,
            partition=record.partition,
            config_path=record.config_path,
            config_sha256=record.config_sha256,
        ),
    )


def left_out(present: ImageRecord, index: int) -> ImageRecord:
    """The record of an image that was asked for beside a stored one, and of which nothing is left.

    Refused, because single images are mostly left out by the provider's own check.
    """
    return replace(_without_image(present, index), status=ImageStatus.REFUSED, error=_LEFT_OUT)


def spoiled(present: ImageRecord, index: int, reason: str) -> ImageRecord:
    """The record of an image beside a stored one that lies in the store and can't be used."""
    return replace(_without_image(present, index), status=ImageStatus.FAILED, error=reason)


def _without_image(present: ImageRecord, index: int) -> ImageRecord:
    return replace(
        present,
        output_index=index,
        image_sha256=None,
        file_sha256=None,
        dhash=None,
        uri=None,
        width=None,
        height=None,
        bytes=None,
    )


def labelled_values(label: Label) -> dict[str, JsonValue]:
    """What a label says of its image, by the record's fields; unchecked, anybody may have made it.

    A member that is no field of today's record is dropped.
    """
    named: dict[str, JsonValue] = {name: getattr(label, name) for name in _LABELLED}
    return {name: label.extra[name] for name in _NAMES & label.extra.keys()} | named


def _record(label: Label, image_format: str) -> ImageRecord:
    """The label's fields as a record."""
    row: dict[str, Any] = labelled_values(label)
    row |= {"status": ImageStatus.STORED, "format": image_format, "attempts": 1}
    row["prompt"] = label.prompt or ""
    try:
        for name in _TIMES:
            if time := row.get(name):
                row[name] = datetime.fromisoformat(time)
        record = ImageRecord(**row)
        records_to_batch([record])  # refuses what fits no column
        dict(json.loads(record.input))
    except (TypeError, ValueError) as error:
        raise ImageError(f"its label is incomplete or was edited ({error})") from None
    return record
