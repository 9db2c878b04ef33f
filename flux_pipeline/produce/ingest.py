"""Turns downloaded bytes into a stored, labelled image: inspect, label, sign, PUT. It blocks.

Nothing is stored that was not decoded whole, and nothing is overwritten: where the key is taken,
the hash of the pixels tells whether the same image is stored there already. A file that comes with
content credentials (C2PA) which a label would break is stored as it came, and its label beside it;
where we sign, they go into our manifest as its ingredient.
"""

import logging
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from threading import Lock
from typing import Any, TypeAlias

from flux_pipeline.errors import ImageError, ObjectConflict, SigningError, StoreError
from flux_pipeline.images.c2pa import Received, check_received
from flux_pipeline.images.formats import file_sha256, remove_boxes
from flux_pipeline.images.inspection import Inspection, inspect_image
from flux_pipeline.images.labels import Label, build_packet, label_image
from flux_pipeline.images.signing import ManifestSigner
from flux_pipeline.lineage.record import (
    ContentCredentials,
    ImageRecord,
    object_metadata,
    record_values,
)
from flux_pipeline.models import has_built_in_rules
from flux_pipeline.produce.effects import NotStored, Stored, StoreOutcome
from flux_pipeline.produce.stored_keys import StoredKeys
from flux_pipeline.request import Request
from flux_pipeline.store.base import Store, StoredObject

log = logging.getLogger(__name__)
Finish: TypeAlias = Callable[[ImageRecord, bytes, Inspection], tuple[ImageRecord, bytes]]
"""Makes of a record and a file, as it was inspected, the record and the file to be stored."""
_CONTENT_TYPES = {"webp": "image/webp", "jpg": "image/jpeg", "png": "image/png"}
_XMP_TYPE = "application/rdf+xml"
_WARNING = Lock()
"""Several threads may come to one warning at once, and a cache lets each of them write it."""

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
    "provider",
    "config_sha256",
    "input",
)

# Known only after storing, or different in the run that stores: they would change the bytes. And
# where a picture that went in lay: a file is published, and its input has the checksum.
_NOT_IN_FILE = frozenset(
    {
        "input_images",
        "file_sha256",
        "uri",
        "bytes",
        "credentials",
        "stored_at",
        "removed_at",
        "archived_uri",
        "polls",
        "attempts",
        "status",
    }
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
    _keys: StoredKeys = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_keys", StoredKeys(self.store))

    def ingest(self, request: Request, record: ImageRecord, body: bytes) -> StoreOutcome:
        """Inspect, label and store one image; ``record`` holds all that is known without it."""
        return self._store(request, record, body, self._finish)

    def _store(
        self, request: Request, record: ImageRecord, body: bytes, finish: Finish
    ) -> StoreOutcome:
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
        if not _matches(request, seen) and not _is_open(request):
            return NotStored("again", f"output {record.output_index}: {'; '.join(seen.flags)}")
        try:
            found, finished = finish(record, body, seen)
            return self._put(request, found, finished, seen)
        except ObjectConflict as error:  # of this one key: other images can be stored
            return NotStored("refused", str(error))
        except (SigningError, StoreError) as error:
            return NotStored("store", str(error))

    def _finish(
        self, record: ImageRecord, body: bytes, seen: Inspection
    ) -> tuple[ImageRecord, bytes]:
        """Label and sign a file, or leave it as it came where that would break its credentials.

        Raises:
            SigningError: The key's function failed, or the file can't hold a manifest.
        """
        received, why = check_received(body) if seen.may_be_signed else (None, "")
        if received is Received.UNCHECKED:
            with _WARNING:
                warn_unchecked(why)
        is_good = received in {Received.VALID, Received.UNCHECKED}
        if is_good and self.signer is None:
            return _with_inspection(record, seen, credentials=ContentCredentials.KEPT), body
        record = _with_credentials(record, seen, received, why, signed=self.signer is not None)
        label = self._label(record)
        if self.signer is None:
            return record, label_image(body, label, seen.structure)
        if is_good:
            return record, self.signer.sign(label_image(body, label), label, parent=body)
        if received is Received.NONE:
            with suppress(SigningError):
                return record, self.signer.sign(label_image(body, label), label)
        # The library refuses some files for what is broken in them, so that is taken out first.
        plain = remove_boxes(body) if received else body
        return record, self.signer.sign(label_image(plain, label), label)

    def is_known_absent(self, request: Request) -> bool:
        """Whether no image of this request was stored some seconds ago; False where unsure.

        Without a call, so that it may be asked on an event loop.
        """
        return all(
            self._keys.is_known_absent(key)
            for index in range(request.outputs)
            for key in image_keys(request, index)
        )

    def is_listing_due(self, request: Request) -> bool:
        """Whether ``find`` would list the set, or soon will. Without a call."""
        return self._keys.is_listing_due(image_key(request, 0))

    def find(self, request: Request) -> str | None:
        """The address of a stored image of this very request; None where there is none.

        Not of one that another worker has stored in the last seconds: see ``StoredKeys``.

        Raises:
            StoreError: The store can't be read.
        """
        for index in range(request.outputs):
            for key in filter(self._keys.may_hold, image_keys(request, index)):
                found = self.store.head(key)
                self._keys.note_answer(key)
                if found and found.metadata.get("request-sha256") == request.request_sha256:
                    return found.uri
        return None

    def _stored(self, request: Request, index: int) -> StoredObject | None:
        """What lies under an image's key, in whichever format it came."""
        for key in image_keys(request, index):
            found = self.store.head(key)
            if found is not None:
                return found
        return None

    def find_image(self, request: Request, record: ImageRecord) -> StoreOutcome:
        """Build the record of an image of this prediction that is stored; ``removed`` if none is.

        An earlier run stored it, and died before the ledger knew.
        """
        key = image_key(request, record.output_index)
        try:
            found = self._stored(request, record.output_index)
            if found is None or not _is_of(found, record):
                return NotStored("removed", f"{key}: nothing of this prediction is stored there")
            stored = replace(record, credentials=found.metadata.get("credentials"))
            return self._store(request, stored, self.store.get(found.key), _as_it_is)
        except StoreError as error:
            return NotStored("store", str(error))

    def _label(self, record: ImageRecord) -> Label:
        """Build the label from what is known before storing, so that it is the same every time.

        Storing again then writes the same bytes, or with a signature the same pixels and label.
        """
        row = record_values(record)
        named: dict[str, Any] = {name: row.pop(name) for name in _LABEL_FIELDS}
        extra = {
            name: value
            for name, value in row.items()
            if value is not None and name not in _NOT_IN_FILE
        }
        if not self.embed_prompt:
            named["prompt"] = None
        named["provider"] = named["provider"] or ""
        return Label(**named, created_at=record.completed_at, producer=self.producer, extra=extra)

    def _put(
        self, request: Request, record: ImageRecord, labelled: bytes, seen: Inspection
    ) -> Stored:
        key = image_key(request, record.output_index, seen.image_format)
        checksum = file_sha256(labelled)
        has_choice = len(image_keys(request, record.output_index)) > 1
        earlier = self._stored(request, record.output_index) if has_choice else None
        if earlier is not None and earlier.key != key:  # another format or name: that one is kept
            stored, new = earlier, False
            record = replace(record, format=earlier.key.rpartition(".")[2])
        else:
            stored, new = self.store.put_new(
                key,
                labelled,
                content_type=_CONTENT_TYPES[seen.image_format],
                metadata=object_metadata(record, file_sha256=checksum),
                sha256=checksum,
            )
        is_kept = stored.metadata.get("credentials") == ContentCredentials.KEPT
        if is_kept and _is_of(stored, record):
            packet = build_packet(self._label(record))
            self.store.put(sidecar_key(stored.key), packet, content_type=_XMP_TYPE)
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


def _as_it_is(record: ImageRecord, body: bytes, seen: Inspection) -> tuple[ImageRecord, bytes]:
    """A file that is stored already was labelled when it was stored."""
    return _with_inspection(record, seen, credentials=record.credentials), body


@cache
def warn_unchecked(why: str) -> None:
    """Log once that files are kept as they come because of a manifest that can't be checked."""
    log.warning("content credentials that can't be checked are taken for valid: %s", why)


def _with_credentials(
    record: ImageRecord, seen: Inspection, received: Received | None, why: str, *, signed: bool
) -> ImageRecord:
    if received is not Received.INVALID:
        ours = ContentCredentials.OURS if signed else ContentCredentials.NONE
        return _with_inspection(record, seen, credentials=ours)
    doubt = f"its content credentials were invalid as received ({why})"
    return _with_inspection(record, seen, doubt, credentials=ContentCredentials.INVALID)


def _with_inspection(
    record: ImageRecord, seen: Inspection, doubt: str = "", *, credentials: str | None
) -> ImageRecord:
    """The record with what was seen; once, because a copy of so many fields takes its time."""
    return replace(
        record,
        image_sha256=seen.image_sha256,
        dhash=seen.dhash,
        width=seen.width,
        height=seen.height,
        format=seen.image_format,
        error="; ".join(filter(None, [*seen.flags, doubt])) or None,
        credentials=credentials,
    )


def image_key(request: Request, index: int, image_format: str = "") -> str:
    """The key of an image: ``images/<set>/<prompt>-<fingerprint>-<index>.<format>``.

    It depends on the request alone, so that storing an image again finds the key taken; only where
    the model chooses the format, that is the one in which the image came.
    """
    return _key(request, request.source.prompt_name, index, image_format)


def _key(request: Request, prompt_name: str, index: int, image_format: str) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", prompt_name.lower()).strip("-")[:60]
    stem = "-".join(filter(None, (name.strip("-"), request.request_sha256[:16], str(index))))
    ending = image_format or request.image_format or "webp"
    return f"images/{request.source.prompt_set}/{stem}.{ending}"


def sidecar_key(key: str) -> str:
    """The key of the label of an image that was stored as it came: an XMP packet."""
    return f"sidecars/{key.removeprefix('images/')}.xmp"


def _is_open(request: Request) -> bool:
    """Whether an image may come in another format or size than was asked for.

    A contract says what may be asked for, and not exactly what comes: models round sizes and choose
    formats. What is paid for is stored as it is, and the record says so. Only where the rules of a
    model are built in, another format or size is a wrong download.
    """
    return not request.image_format or not has_built_in_rules(request)


def image_keys(request: Request, index: int) -> list[str]:
    """The keys under one of which an image lies.

    They are one for each format in which it may come, and the same with the name that the first
    release gave the prompt, where that is another.
    """
    formats = _CONTENT_TYPES if _is_open(request) else [request.image_format]
    names = filter(None, (request.source.prompt_name, request.source.stable_name))
    return [_key(request, name, index, each) for name in names for each in formats]


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
    record = replace(record, credentials=stored.metadata.get("credentials"))
    if theirs == record.image_sha256:
        return record
    return replace(
        record,
        image_sha256=theirs or None,
        dhash=None,
        prediction_id=stored.metadata.get("prediction-id") or record.prediction_id,
        error="an earlier answer to the same request lies in the store and was kept",
    )
