"""What a file from anywhere tells of its image: whose label it carries, its pixels, its looks."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from flux_pipeline.errors import ImageError
from flux_pipeline.images.containers import image_sha256, read_structure
from flux_pipeline.images.decoding import decode, decode_anything
from flux_pipeline.images.dhash import difference_hash
from flux_pipeline.images.inspection import MAX_PIXELS
from flux_pipeline.images.label import Label
from flux_pipeline.images.labelling import read_label
from flux_pipeline.images.structure import Structure

Carrier: TypeAlias = Literal["c2pa", "xmp"]
"""What a label was read from."""
_JUMBF = b"jumb"
"""Stands in every C2PA manifest, so that only files with one load the library."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What one file shows; None for what it does not."""

    label: Label | None = None
    """A hint: who can write the file can write its label."""
    carrier: Carrier = "xmp"
    """Where the label stood."""
    image_sha256: str | None = None
    """Of the coded pixels; None where the file is not one whole webp, jpg or png."""
    dhash: int | None = None
    """None where nothing of it decodes, and where the picture is too plain to be told by it."""
    problem: str = ""
    """Why the pixels could not be read as they should; a clause."""


def read_evidence(body: bytes) -> Evidence:
    """Read all that can be read; a broken file shows less, and raises nothing."""
    try:
        structure = read_structure(body)
    except ImageError as error:
        return Evidence(dhash=_looks(body, None), problem=str(error))
    label, carrier = _label(body)
    return Evidence(
        label=label,
        carrier=carrier,
        image_sha256=image_sha256(body, structure),
        dhash=_looks(body, structure),
    )


def _label(body: bytes) -> tuple[Label | None, Carrier]:
    """The signed label if there is one, else the XMP packet's."""
    try:
        packet = read_label(body)
        signed = _signed(body)
    except ImageError:
        return None, "xmp"
    if signed is None:
        return packet, "xmp"
    # The signature covers the packet too, which says more.
    same = packet is not None and packet.image_sha256 == signed.image_sha256
    return (packet if same else signed), "c2pa"


def _signed(body: bytes) -> Label | None:
    if _JUMBF not in body:
        return None
    from flux_pipeline.images.c2pa import read_manifest  # noqa: PLC0415 - 40 ms for a rare file

    return read_manifest(body)


def _looks(body: bytes, structure: Structure | None) -> int | None:
    """The difference hash; a picture without contrast has none that would tell it from others."""
    try:
        if structure is not None and structure.width * structure.height <= MAX_PIXELS:
            small = decode(body, structure).small
        else:
            small = decode_anything(body, max_pixels=MAX_PIXELS)
    except ImageError:
        return None
    return difference_hash(np.asarray(small.convert("L"))) or None
