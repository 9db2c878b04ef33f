"""Turns downloaded bytes into a stored, labelled image: inspect, label, sign, PUT. It blocks.

Nothing is stored that was not decoded whole, and nothing is overwritten: where the key is taken,
the hash of the pixels tells whether the same image is stored there already.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime

from flux_pipeline.errors import ImageError, ObjectConflict, SigningError, StoreError
from flux_pipeline.images.inspection import Inspection, inspect_image
from flux_pipeline.images.labels import Label, label_image
from flux_pipeline.images.signing import ManifestSigner
from flux_pipeline.lineage.record import ImageRecord, object_metadata
from flux_pipeline.produce.effects import NotStored, Stored, StoreOutcome
from flux_pipeline.request import Request
from flux_pipeline.store.base import Store, StoredObject

_CONTENT_TYPES = {"webp": "image/webp", "jpg": "image/jpeg", "png": "image/png"}

_LABEL_FIELDS = (
    "prompt",
    "prediction_id",
    "request_sha256",
    "output_index",
    "image_sha256",
    "seed",
    "run_id",
    "prompt_set",
    "prompt_name",
    "partition",
    "model",
    "version",
    "config_sha256",
    "input",
)

# Known only after storing, or different in the run that stores: they would change the bytes.
_NOT_IN_FILE = frozenset(
    {"file_sha256", "uri", "bytes", "stored_at", "polls", "attempts", "status"}
)


@dataclass(frozen=True, slots=True)
class ImageIngest:
    """Inspects, labels and stores the images of one run. Thread-safe."""

    store: Store
    now: Callable[[], datetime]
    """UTC."""
    producer: str = ""
    """For the TC260:AIGC label; empty for none."""
    embed_prompt: bool = True
    """Whether the prompt is written into the file, and so published with it."""
    signer: ManifestSigner | None = None
    """Adds a C2PA manifest, last; None for none."""

    def ingest(self, request: Request, record: ImageRecord, body: bytes) -> StoreOutcome:
        """Inspect, label and store one image; ``record`` holds all that is known without it."""
        try:
            seen = inspect_image(
                body,
                image_format=request.image_format,
                width=request.width,
                height=request.height,
                with_thumbnail=True,
            )
        except ImageError as error:
            return NotStored("again", f"output {record.output_index}: {error}")
        if not _matches(request, seen):
            return NotStored("again", f"output {record.output_index}: {'; '.join(seen.flags)}")
        found = _with_inspection(record, seen)
        label = self._label(found)
        labelled = label_image(body, label)
        try:
            if self.signer is not None:
                labelled = self.signer.sign(labelled, label)
            return self._put(request, found, labelled, seen)
        except ObjectConflict as error:  # of this one key: other images can be stored
            return NotStored("refused", str(error))
        except (SigningError, StoreError) as error:
            return NotStored("store", str(error))

    def find(self, request: Request) -> str | None:
        """The address of a stored image of this very request; None where there is none.

        Raises:
            StoreError: The store can't be read.
        """
        for index in range(request.outputs):
            found = self.store.head(image_key(request, index))
            if found and found.metadata.get("request-sha256") == request.request_sha256:
                return found.uri
        return None

    def find_image(self, request: Request, record: ImageRecord) -> StoreOutcome:
        """Build the record of an image of this prediction that is stored; ``removed`` if none is.

        An earlier run stored it, and died before the ledger knew.
        """
        key = image_key(request, record.output_index)
        try:
            found = self.store.head(key)
            if found is None or not _is_of(found, record):
                return NotStored("removed", f"{key}: nothing of this prediction is stored there")
            return self.ingest(request, record, self.store.get(key))
        except StoreError as error:
            return NotStored("store", str(error))

    def _label(self, record: ImageRecord) -> Label:
        """Build the label from what is known before storing, so that it is the same every time.

        Storing again then writes the same bytes, or with a signature the same pixels and label.
        """
        row = asdict(record)
        named = {name: row.pop(name) for name in _LABEL_FIELDS}
        row = {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in row.items()
            if value is not None and name not in _NOT_IN_FILE
        }
        if not self.embed_prompt:
            named["prompt"] = None
        return Label(**named, created_at=record.completed_at, producer=self.producer, extra=row)

    def _put(
        self, request: Request, record: ImageRecord, labelled: bytes, seen: Inspection
    ) -> Stored:
        key = image_key(request, record.output_index)
        record = replace(record, file_sha256=hashlib.sha256(labelled).hexdigest())
        stored, new = self.store.put_new(
            key,
            labelled,
            content_type=_CONTENT_TYPES[request.image_format],
            metadata=object_metadata(record),
        )
        if not new:
            record = _keep_existing(record, stored)
        record = replace(
            record,
            file_sha256=stored.sha256,
            uri=stored.uri,
            bytes=stored.size,
            stored_at=self.now(),
        )
        return Stored(record, seen.thumbnail or b"")


def _with_inspection(record: ImageRecord, seen: Inspection) -> ImageRecord:
    return replace(
        record,
        image_sha256=seen.image_sha256,
        dhash=seen.dhash,
        width=seen.width,
        height=seen.height,
        error="; ".join(seen.flags) or None,
    )


def image_key(request: Request, index: int) -> str:
    """The key of an image: ``images/<set>/<prompt>-<fingerprint>-<index>.<format>``.

    It depends on the request alone, so that storing an image again finds the key taken.
    """
    name = re.sub(r"[^a-z0-9]+", "-", request.source.prompt_name.lower()).strip("-")[:60]
    stem = "-".join(filter(None, (name.strip("-"), request.request_sha256[:16], str(index))))
    return f"images/{request.source.prompt_set}/{stem}.{request.image_format}"


def _matches(request: Request, seen: Inspection) -> bool:
    """Whether format and size are those of the request; a width of 0 px allows any size."""
    size = (request.width, request.height)
    return seen.image_format == request.image_format and (
        size in {(0, 0), (seen.width, seen.height)}
    )


def _is_of(stored: StoredObject, record: ImageRecord) -> bool:
    """Whether an object is of this very request and prediction."""
    theirs = (stored.metadata.get("request-sha256"), stored.metadata.get("prediction-id"))
    return theirs == (record.request_sha256, record.prediction_id)


def _keep_existing(record: ImageRecord, stored: StoredObject) -> ImageRecord:
    """Return the record of what is stored under the key already, as far as it is ours.

    It may be this very image, or an earlier answer to the same request, which is kept.

    Raises:
        ObjectConflict: Where it belongs to another request.
    """
    theirs = stored.metadata.get("image-sha256", "")
    if stored.metadata.get("request-sha256") != record.request_sha256:
        raise ObjectConflict(
            f"{stored.uri}: holds other bytes (sha256 {stored.sha256 or 'unknown'}) that are not"
            f" ours (image {record.image_sha256}); move them away and run again"
        )
    if theirs == record.image_sha256:
        return record
    return replace(
        record,
        image_sha256=theirs or None,
        dhash=None,
        prediction_id=stored.metadata.get("prediction-id") or record.prediction_id,
        error="an earlier answer to the same request lies in the store and was kept",
    )
