"""C2PA manifests: reads and verifies the one in an image file, and builds the definition of ours.

Our manifest says that a model made the image, and holds our ids. Its signature covers every byte of
the file, the XMP packet too, so that any later edit breaks it. ``signing`` signs; ``ForkGate``
keeps native calls and forks apart.
"""

import importlib
import io
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from importlib.metadata import version
from types import ModuleType
from typing import Any, Final

from flux_pipeline.images.formats import AVIF, detect_format, is_avif, read_xmp
from flux_pipeline.images.labels import Label, names_manifest

ASSERTION: Final = "flux-pipeline.label"
"""The name of our own assertion, which holds the ids."""
PARENT: Final = "received"
"""The name, within a definition, of the ingredient that our manifest follows."""


class Edit(StrEnum):
    """What was done to a picture, as C2PA names it (specification 2.2, table of actions)."""

    LABELLED = "c2pa.edited.metadata"
    ORIENTED = "c2pa.orientation"
    CROPPED = "c2pa.cropped"
    RESIZED = "c2pa.resized"
    COLOURS_CONVERTED = "c2pa.adjustedColor"
    SHARPENED = "c2pa.enhanced"
    """"Non-editorial transformations" such as noise reduction and sharpening."""
    PLACED_ON_GROUND = "c2pa.edited"
    CONVERTED = "c2pa.converted"
    """To another file format."""
    ENCODED_ANEW = "c2pa.transcoded"


_TEXT_FIELDS = (
    "prompt",
    "prediction_id",
    "request_sha256",
    "image_sha256",
    "run_id",
    "prompt_set",
    "prompt_name",
    "partition",
    "model",
    "version",
    "config_sha256",
)

_NUMBER_FIELDS = ("output_index", "seed")
MEDIA_TYPES: Final = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}

SETTINGS: Final = {
    "version": 1,
    "builder": {"thumbnail": {"enabled": False}},  # it would be ten times the image's size
    "verify": {
        "remote_manifest_fetch": False,  # a file must not choose whom we call
        "ocsp_fetch": False,
        "verify_after_sign": False,  # tried out once, when a signer is opened
    },
}

LOAD_ERRORS: Final = (ImportError, OSError, RuntimeError)
_HEAD: Final = b"jumdc2pa"
"""Stands in the head of every whole manifest."""
_SIGNED: Final = "claimSignature.validated"
_BINDINGS = {
    "assertion.dataHash.match",
    "assertion.boxesHash.match",
    "assertion.bmffHash.match",
}
"""Codes that say that the bytes are those that were signed: hashed in one piece, or box by box; the
last one is an avif's."""

_SIGNER_FAILURES = {
    "signingCredential.untrusted",
    "signingCredential.expired",
    "claimSignature.outsideValidity",
    "timeStamp.untrusted",
    "timeStamp.outsideValidity",
}
"""Codes about the signer and the time; the bytes may still be what was signed."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of a file's manifest, and whether the file is what was signed.

    ``valid`` means that no byte was changed since, and nothing about the signer: anybody can make
    certificates with any name. Where it is False, ``label`` is a mere claim.
    """

    label: Label | None
    """Ids and, where it was embedded, the prompt; None in another tool's manifest."""
    valid: bool
    problems: tuple[str, ...] = ()
    """The reader's codes, such as ``assertion.dataHash.mismatch``; an unknown signer is one too."""
    signed_by: str = ""
    """Name and organisation in the certificate."""
    timestamp: str = ""
    """Of a timestamp authority, ISO 8601; empty without one."""


def read_manifest(body: bytes) -> Label | None:
    """The label in a valid manifest of ours, or None; always None without the package c2pa.

    Valid is not trusted, see ``Manifest``. Raises ImageError where the bytes are no image.
    """
    manifest = inspect_manifest(body)
    return manifest.label if manifest is not None and manifest.valid else None


def inspect_manifest(body: bytes) -> Manifest | None:
    """Read and verify a file's manifest; None for a file without, and without the package c2pa.

    Nothing is fetched. Raises ImageError where the bytes are no image.
    """
    media_type = media_type_of(body)
    try:
        library = native_library()
    except LOAD_ERRORS:
        return None
    error = library.C2paError
    try:
        with (
            GATE.call(),
            library.Reader(
                media_type, io.BytesIO(body), context=_reading_context(os.getpid())
            ) as reader,
        ):
            return _parse_manifest(json.loads(reader.json()))
    except error.ManifestNotFound:
        return None
    except error as broken:
        # A manifest that lies at an address is not fetched: a file must not choose whom we call.
        if str(broken).startswith("Remote"):
            return None
        return Manifest(None, valid=False, problems=(str(broken),))


def media_type_of(body: bytes) -> str:
    """The media type of a file that can hold a manifest. Raises ImageError for any other."""
    return AVIF if is_avif(body) else MEDIA_TYPES[detect_format(body)]


class Received(StrEnum):
    """What the manifest is worth that a file came with."""

    NONE = "none"
    """There is none, though it looked like it."""
    VALID = "valid"
    """The file is what was signed, by whomever."""
    INVALID = "invalid"
    """It is broken, or is about other bytes."""
    UNCHECKED = "unchecked"
    """It lies at an address, which is not fetched, or the package c2pa is missing."""


def check_received(body: bytes) -> tuple[Received, str]:
    """What the manifest that a file has or names is worth, and why not more.

    Call it where ``Inspection.may_be_signed``. Valid is not trusted, see ``Manifest``: whoever
    signed, another byte in the file would break it. Raises ImageError where the bytes are no image.
    """
    is_embedded = _HEAD in body
    if not is_embedded and names_manifest(read_xmp(body) or b""):
        return Received.UNCHECKED, "it lies at an address, and nothing is fetched"
    try:
        native_library()
    except LOAD_ERRORS:
        why = "it needs the package c2pa: pip install 'flux-pipeline[c2pa]'"
        return (Received.UNCHECKED, why) if is_embedded else (Received.NONE, "")
    manifest = inspect_manifest(body)
    if manifest is None:
        why = "its parts don't make a manifest"
        return (Received.INVALID, why) if is_embedded else (Received.NONE, "")
    if manifest.valid:
        return Received.VALID, ""
    wrong = [code for code in manifest.problems if code not in _SIGNER_FAILURES]
    return Received.INVALID, ", ".join(wrong) or "nothing of it proves the file's bytes"


def native_library() -> ModuleType:
    """The native library: 23 MB and 0.1 s, so it is loaded only where something is signed."""
    return importlib.import_module("c2pa")


@cache
def _reading_context(process: int) -> Any:  # noqa: ARG001 - one for each: none survives a fork
    return native_library().Context.from_dict(SETTINGS)


def manifest_definition(label: Label, edits: Sequence[Edit] = ()) -> dict[str, Any]:
    """The manifest of a label as the native library wants it; no prompt where the label has none.

    The ids are signed twice: here, and with the XMP packet, which holds the whole label. With
    ``edits`` the image was not made but opened, as the ingredient PARENT, and changed: who made it,
    and with what, is said in the ingredient's own manifest.
    """
    members = {name: _cbor_text(text) for name in _TEXT_FIELDS if (text := getattr(label, name))}
    members |= {name: n for name in _NUMBER_FIELDS if _fits_cbor(n := getattr(label, name))}
    if label.created_at is not None:
        members["created_at"] = label.created_at.isoformat()
    actions = _edit_actions(edits) if edits else [_created_action(label)]
    return {
        "claim_generator_info": [{"name": "flux-pipeline", "version": _own_version()}],
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": actions}},
            {"label": ASSERTION, "data": members},
        ],
    }


def _created_action(label: Label) -> dict[str, Any]:
    if label.is_placeholder:
        agent = {"name": "flux-pipeline emulator", "version": _own_version()}
    else:
        agent = {"name": label.model or "flux-pipeline", "version": label.version}
    created = {
        "action": "c2pa.created",
        "digitalSourceType": label.source_type,
        "softwareAgent": {name: _cbor_text(value) for name, value in agent.items() if value},
    }
    when = {} if label.created_at is None else {"when": label.created_at.isoformat()}
    return created | when


def _edit_actions(edits: Sequence[Edit]) -> list[dict[str, Any]]:
    agent = {"name": "flux-pipeline", "version": _own_version()}
    return [
        {"action": "c2pa.opened", "parameters": {"ingredientIds": [PARENT]}},
        *({"action": edit, "softwareAgent": agent} for edit in edits),
    ]


@cache
def _own_version() -> str:
    return version("flux-pipeline")


def _fits_cbor(number: int | None) -> bool:
    """Whether the native library can hold it: a paid image must not fail for its label."""
    return number is not None and -(2**63) <= number < 2**63


def _cbor_text(text: str) -> str:
    """The text without lone surrogates, which CBOR can't hold: they are written out."""
    return text.encode("utf-8", "backslashreplace").decode()


def _parse_manifest(found: Mapping[str, Any]) -> Manifest:
    active = found.get("manifests", {}).get(found.get("active_manifest"), {})
    results = found.get("validation_results", {}).get("activeManifest", {})
    failures, successes = (
        {result["code"] for result in results.get(kind, ())} for kind in ("failure", "success")
    )
    ours = [each.get("data") for each in active.get("assertions", ()) if each["label"] == ASSERTION]
    signature = active.get("signature_info", {})
    names = (signature.get(name) for name in ("common_name", "issuer"))
    return Manifest(
        label=_parse_label(ours[0]) if ours else None,
        valid=_SIGNED in successes
        and not successes.isdisjoint(_BINDINGS)
        and failures <= _SIGNER_FAILURES,
        problems=tuple(sorted(failures)),
        signed_by=", ".join(filter(None, names)),
        timestamp=signature.get("time") or "",
    )


def _parse_label(members: Any) -> Label | None:
    """The label in our assertion; a member of the wrong type is left out."""
    if not isinstance(members, dict):
        return None
    fields: dict[str, Any] = {
        name: members[name] for name in _TEXT_FIELDS if isinstance(members.get(name), str)
    }
    fields |= {name: members[name] for name in _NUMBER_FIELDS if type(members.get(name)) is int}
    fields["created_at"] = _parse_time(members.get("created_at"))
    return Label(**fields)


def _parse_time(text: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo else None


class ForkGate:
    """Admits native calls of any number of threads at once, and no fork during one.

    The native library has a lock for all threads. Only the thread that forks lives on in the
    child: did another one hold the lock, the child's first call would wait for ever.

    The trap: a fork waits for calls under way, as long as a timestamp authority takes. It does not
    wait for a call of the forking thread itself, whose child is on its own.
    """

    def __init__(self) -> None:
        self._mine = threading.local()
        self._reset(0)

    @contextmanager
    def call(self) -> Iterator[None]:
        """Hold off forks; waits first for a fork that is under way or waiting."""
        depth = self._depth
        with self._changed:
            while self._forks and not depth:
                self._changed.wait()
            self._inside += 1
        self._mine.depth = depth + 1
        try:
            yield
        finally:
            self._mine.depth = depth
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @property
    def calls(self) -> int:
        """How many calls are under way."""
        return self._inside

    def before(self) -> None:
        """Before a fork: wait for the calls of other threads, and admit no more."""
        self._changed.acquire()
        self._forks += 1
        self._forks_inside += self._depth
        while self._inside > self._forks_inside:
            self._changed.wait()

    def after_in_parent(self) -> None:
        """After a fork, in the parent: admit calls again."""
        self._forks -= 1
        self._forks_inside -= self._depth
        self._changed.notify_all()
        self._changed.release()

    def after_in_child(self) -> None:
        """After a fork, in the child: forget the threads that live in the parent alone."""
        self._reset(self._depth)

    @property
    def _depth(self) -> int:
        """How many nested calls this thread has under way."""
        depth: int = getattr(self._mine, "depth", 0)
        return depth

    def _reset(self, inside: int) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._inside = inside
        self._forks = 0
        self._forks_inside = 0
        """Calls of threads that fork from within them: two of those don't wait for each other."""


GATE = ForkGate()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=GATE.before,
        after_in_parent=GATE.after_in_parent,
        after_in_child=GATE.after_in_child,
    )
