"""Inspects an image with one full decode: whole, of the right format and size, blank, its hashes.

``inspect_image`` is for a downloaded output, ``read_evidence`` for a file from anywhere that is to
be traced. Both work on one small picture, about 128 px, made of the decoded pixels.
"""

import io
import os
import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache, lru_cache
from threading import BoundedSemaphore, Lock
from typing import Final, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt
from PIL import Image, WebPImagePlugin

from flux_pipeline.errors import ImageError
from flux_pipeline.images import png
from flux_pipeline.images.allocator import keep_freed_memory
from flux_pipeline.images.container import Structure
from flux_pipeline.images.formats import (
    CONTAINERS,
    file_sha256,
    has_boxes,
    image_sha256,
    read_structure,
)
from flux_pipeline.images.labels import Label, names_manifest, read_label

Carrier: TypeAlias = Literal["c2pa", "xmp"]
"""Where a label was read from: a C2PA manifest or an XMP packet."""
MAX_PIXELS: Final = 89_478_485
"""9,459 x 9,459 px, above which Pillow warns: 360 MB while they are decoded. Upscalers return so
many, and what was paid for must not be refused."""
_LARGE_PIXELS: Final = 16_777_216
"""4096 x 4096 px: of more than that only one image is decoded at a time."""
_one_large_image = Lock()
THUMBNAIL_SIDE: Final = 100
"""px, the longer side"""
_THUMBNAIL_QUALITY = 70
_MINIATURES = ((96, 40), (80, 30), (64, 30), (48, 20), (32, 20), (16, 10))
"""Longer side in px, and quality, tried one after the other."""
_SMALL_SIDE = 128
"""px, about, of the shorter side of the small picture"""
_BLANK_SPREAD = 8
"""Grey levels of 255 between the darkest and the brightest part of a picture of one colour."""
_HASH_ROWS, _HASH_COLUMNS = 8, 9
_HASH_STEP = 0.5
"""Grey levels. A smaller step is encoder noise, and would make flat parts hash at random."""
_FILLING = {("png", 0), ("jpg", 128)}
"""Format, and the byte that its decoder silently puts where coded rows are missing."""
_FILLED_FORMATS = frozenset(image_format for image_format, _ in _FILLING)
_JUMBF = b"jumb"
"""Stands in every C2PA manifest, so that only files with one load the library."""
_SAMPLED_ROWS = ((1, 0), (2, 1), (5, 1), (6, 0))
"""Row of eight, and the first of its groups of four pixels, of which each second is averaged: one
pixel of four of a large webp. Even and odd rows and columns are met equally often, so that the grey
of stripes and patterns of single pixels is that of the whole picture."""
_SAMPLED_SIDE = 4 * _SMALL_SIDE
"""px of the shorter side, from which on this many pixels are enough."""
_OPAQUE_WEBP = "RGBX"
"""What Pillow's decoder gives of a webp without transparency: 4 bytes a pixel, RGB and one that is
not read. Pillow keeps RGB in memory in just this way."""
PILLOW_NAMES = {"webp": WebPImagePlugin.WebPImageFile.format, "jpg": "JPEG", "png": "PNG"}
"""WebP's module is imported here, or Pillow would import those of all formats to find it: 20 ms."""
_COMMON_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "AVIF", "GIF", "TIFF", "BMP")
"""Pillow's names of the formats that people save pictures in; a build may lack some."""
DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Warning,
)
"""What Pillow's parsers can raise on hostile bytes; a warning only where warnings are errors."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What one full decode of the downloaded bytes showed."""

    image_format: str
    """``webp``, ``jpg`` or ``png``, by the bytes and not by what was asked for."""
    width: int
    """px"""
    height: int
    """px"""
    image_sha256: str
    """Of the coded pixels alone; labelling leaves it unchanged."""
    dhash: int
    """64 bits, unsigned; see ``dhash``."""
    blank: bool
    """All of one colour, as a provider's safety filter leaves an image."""
    flags: tuple[str, ...]
    """A clause for each thing that is not as asked, and no reason to refuse a paid image."""
    structure: Structure = field(repr=False)
    """Where the parts of the file lie."""
    may_be_signed: bool = False
    """Whether a C2PA manifest may be in it, or its XMP names the address of one; valid or not."""
    thumbnail: bytes | None = field(default=None, repr=False)
    """JPEG, longer side 100 px, where it was asked for."""


def inspect_image(
    body: bytes, *, image_format: str, width: int, height: int, with_thumbnail: bool = False
) -> Inspection:
    """Check the file's structure and header first, then decode it fully, once.

    ``image_format`` (empty: any), ``width`` and ``height`` (px) are what was asked for: another
    format or size is flagged, because the image is paid and whole. One flipped bit in the pixels
    can't be seen.
    Raises ImageError for anything that is not one whole image: other types, cut or followed files,
    wrong checksums, animations, more than ``MAX_PIXELS``, missing rows, a decoder's refusal.
    """
    structure = read_structure(body, checksums=True)
    found = structure.image_format
    if structure.animated:
        raise ImageError(f"{found} is animated: one still image was asked for")
    if structure.width * structure.height > MAX_PIXELS:
        raise ImageError(
            f"{found} of {structure.width} x {structure.height} px: more than {MAX_PIXELS:,} px"
        )
    flags = []
    if image_format and found != image_format:
        flags.append(f"{image_format} was asked for, this is {found}")
    if width and (structure.width, structure.height) != (width, height):
        asked, real = f"{width} x {height}", f"{structure.width} x {structure.height}"
        flags.append(f"{asked} px were asked for, these are {real} px")
    decoded = decode(body, structure)
    if remark := check_rows(body, structure, decoded):
        flags.append(remark)
    gray = decoded.small.convert("L")
    blank = _is_blank(decoded.small, gray)
    if blank:
        flags.append("blank: all of one colour")
    return Inspection(
        image_format=found,
        width=structure.width,
        height=structure.height,
        image_sha256=image_sha256(body, structure),
        dhash=difference_hash(np.asarray(gray)),
        blank=blank,
        flags=tuple(flags),
        structure=structure,
        may_be_signed=has_boxes(body, structure) or _names_manifest(body, structure),
        thumbnail=thumbnail(decoded.small) if with_thumbnail else None,
    )


def _names_manifest(body: bytes, structure: Structure) -> bool:
    packet = CONTAINERS[structure.image_format].read_xmp(body, structure)
    return packet is not None and names_manifest(packet)


def _is_blank(small: Image.Image, gray: Image.Image) -> bool:
    # A grey level lies between those of its colours: where it spreads wider, so does one of them.
    if _spread(gray) > _BLANK_SPREAD + 1:
        return False
    return all(_spread(band) <= _BLANK_SPREAD for band in small.split())


def _spread(band: Image.Image) -> int:
    """How far apart the lowest and the highest value of a picture with one band are."""
    lowest, highest = cast("tuple[int, int]", band.getextrema())
    return highest - lowest


@dataclass(frozen=True, slots=True)
class Decoded:
    """What remains of a decoded image: the full pixels are let go at once."""

    small: Image.Image
    """Whole picture, RGB, on white where it was transparent, shorter side 128 to 255 px or less."""
    ends_in_filling: bool
    """Whether all of the last row has the value that a decoder fills missing rows with."""


def decode(body: bytes, structure: Structure) -> Decoded:
    """Decode every pixel once, with the decoder of this format and no other.

    The size was checked before, so memory is bounded. What a decoder accepts can still be wrong:
    one flipped bit decodes. Raises ImageError.
    """
    name = PILLOW_NAMES[structure.image_format]
    try:
        with (
            bounded_memory(structure.width * structure.height),
            Image.open(io.BytesIO(body), formats=[name]) as image,
        ):
            pixels = decode_opaque_webp(image)
            if pixels is None:
                image.load()
            if image.size != (structure.width, structure.height):
                raise ImageError(
                    f"{structure.image_format} decodes to {image.width} x {image.height} px, "
                    f"its header says {structure.width} x {structure.height} px"
                )
            if pixels is not None:
                return Decoded(shrink_opaque(pixels, image.size), ends_in_filling=False)
            return Decoded(_shrink(image), _ends_in_filling(image, structure.image_format))
    except DECODER_ERRORS as error:
        raise ImageError(
            f"{structure.image_format} of {len(body)} bytes does not decode "
            f"({type(error).__name__})"
        ) from error


def decode_opaque_webp(image: Image.Image) -> bytes | None:
    """The pixels as Pillow's decoder gives them, 4 bytes each; None of any other image.

    Without the copy that Pillow makes of them all, which takes a fifth of the decoding's CPU, and 4
    bytes a pixel. Pillow has no public name for it: should that one go, or give something else,
    there are none.
    """
    decode_frame = getattr(image, "_get_next", None)
    if decode_frame is None or getattr(image, "rawmode", "") != _OPAQUE_WEBP:
        return None
    pixels: bytes
    pixels, *_ = decode_frame()
    return pixels


@contextmanager
def bounded_memory(pixels: int) -> Iterator[None]:
    """What to hold while so many pixels are in memory: of large images there is one at a time.

    Of others as many as there are cores: more would hold more pixels, and be no faster. Not to be
    entered twice by one thread.
    """
    keep_freed_memory()
    with _one_large_image if pixels > _LARGE_PIXELS else nullcontext(), _decoders():
        yield


@cache
def _decoders() -> BoundedSemaphore:
    return BoundedSemaphore(max(2, usable_cores()))


def usable_cores() -> int:
    """How many cores this process may run on: a container often has fewer than its machine."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def decode_anything(body: bytes, *, max_pixels: int) -> Image.Image:
    """The small picture of a file of any common type, even one with bytes after its end.

    For files from outside, which are compared and never stored. Raises ImageError.
    """
    Image.init()
    known = [name for name in _COMMON_FORMATS if name in Image.OPEN]
    try:
        with Image.open(io.BytesIO(body), formats=known) as image:
            if image.width * image.height > max_pixels:
                raise ImageError(f"{image.width} x {image.height} px: more than {max_pixels:,} px")
            image.load()
            return _shrink(image)
    except DECODER_ERRORS as error:
        raise ImageError(f"{len(body)} bytes don't decode ({type(error).__name__})") from error


def check_rows(body: bytes, structure: Structure, decoded: Decoded) -> str | None:
    """Look for missing rows; return a remark where they may be missing.

    Raises ImageError where a PNG is proven to lack rows, or to hold far more than its rows. Neither
    can be proven of a JPEG: a grey last row is legal.
    """
    if structure.image_format == "png":
        _check_png_rows(body, structure, decoded)
    elif decoded.ends_in_filling:
        return "the last row is the decoder's own grey: rows may be missing"
    return None


def _check_png_rows(body: bytes, structure: Structure, decoded: Decoded) -> None:
    surplus = png.surplus_bytes(body, structure)
    if surplus > png.MAX_SURPLUS:
        raise ImageError(f"png unpacks to {surplus:,} bytes and more than its pixels need")
    # Where the last row shows pixels none is missing, unless rows are interlaced.
    may_lack = decoded.ends_in_filling or png.is_interlaced(body, structure)
    if may_lack and surplus < 0:
        raise ImageError("png holds fewer rows than its header names")


def thumbnail(small: Image.Image) -> bytes:
    """A JPEG of the whole image, longer side 100 px, about 2 to 6 KB.

    A WebP that looks as good has three quarters of the bytes, and takes six times as long.
    """
    scale = THUMBNAIL_SIDE / max(small.size)
    if scale < 1:
        size = (max(1, round(small.width * scale)), max(1, round(small.height * scale)))
        small = small.resize(size, Image.Resampling.BOX)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=_THUMBNAIL_QUALITY)
    return out.getvalue()


def miniature(picture: bytes, most_bytes: int) -> bytes:
    """A thumbnail made smaller and coarser until it fits, as a WebP; empty where it can't."""
    if len(picture) <= most_bytes:
        return picture
    with Image.open(io.BytesIO(picture), formats=["JPEG", "WEBP"]) as image:
        whole = image.convert("RGB")
    for side, quality in _MINIATURES:
        small = whole.copy()
        small.thumbnail((side, side))
        out = io.BytesIO()
        small.save(out, "WEBP", quality=quality, method=4)
        if out.tell() <= most_bytes:
            return out.getvalue()
    return b""


def _shrink(image: Image.Image) -> Image.Image:
    """The small picture, in the order that costs least: average first, convert after."""
    factor = max(1, min(image.size) // _SMALL_SIDE)
    small = averageable(image)
    for step in (4, factor // 4) if factor % 4 == 0 else (factor,):  # 4 has a fast path in Pillow
        small = small.reduce(step)
    if small.mode in {"RGBA", "LA"}:
        white = Image.new("RGBA", small.size, "white")
        small = Image.alpha_composite(white, small.convert("RGBA"))
    return small.convert("RGB")


def shrink_opaque(pixels: bytes, size: tuple[int, int]) -> Image.Image:
    """The small picture of a webp's pixels, 4 bytes each; of a large one, of a quarter of them.

    Averaging them all takes twice as long, and 0.4 ms of an image's CPU. Of photographs the two
    differ by a grey level of 255, and their hashes by one bit. Where the quarter is of one colour
    all are averaged, so that a thin line is not missed.
    """
    width, height = size
    words = np.frombuffer(pixels, np.uint32).reshape(height, width)
    if min(size) >= _SAMPLED_SIDE:
        # Four pixels at once, as numbers of 16 bytes: one by one takes twice as long.
        groups = words[: height // 8 * 8, : width // 8 * 8].view(np.complex128)
        sampled = np.empty((height // 8 * 4, width // 8), np.complex128)
        for number, (row, group) in enumerate(_SAMPLED_ROWS):
            sampled[number::4] = groups[row::8, group::2]
        small = _shrink(_as_image(sampled.view(np.uint32)))
        if not _is_blank(small, small.convert("L")):
            return small
    return _shrink(_as_image(words))


def _as_image(words: npt.NDArray[np.uint32]) -> Image.Image:
    """Pixels of 4 bytes as an RGB image, without a copy.

    By way of Arrow, because Pillow takes no RGB from a buffer without copying it. As RGBX it would
    average four values a pixel and not three, which takes a third longer.
    """
    import pyarrow as pa  # noqa: PLC0415 - loaded already where images are made

    height, width = words.shape
    buffers = [None, pa.py_buffer(words.data)]
    array = pa.Array.from_buffers(pa.uint32(), width * height, buffers)
    return Image.fromarrow(array, "RGB", (width, height))


def averageable(image: Image.Image) -> Image.Image:
    """The image in a mode whose numbers may be averaged: no palette, no single bits, 8 bits."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in {"P", "PA"} or "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert("L") if image.mode == "1" else image


def _ends_in_filling(image: Image.Image, image_format: str) -> bool:
    if image_format not in _FILLED_FORMATS:
        return False
    row = image.crop((0, image.height - 1, image.width, image.height)).tobytes()
    value = row[0]
    return (image_format, value) in _FILLING and row.count(value) == len(row)


def difference_hash(gray: npt.NDArray[np.uint8]) -> int:
    """A 64-bit difference hash of (height, width) grey levels; 0 for a picture without contrast.

    It finds an image again that was re-encoded or resized: it compares the mean brightness of
    neighbouring cells in a grid of 8 rows and 9 columns. A crop of 20 % is another image to it.
    Both sides should be 64 px or more; 128 px are enough. Own code, because the libraries that
    offer one bring SciPy.
    """
    height, width = gray.shape
    cells = _means(height, _HASH_ROWS) @ gray.astype(np.float32) @ _means(width, _HASH_COLUMNS).T
    brighter = cells[:, 1:] - cells[:, :-1] > _HASH_STEP
    return int.from_bytes(np.packbits(brighter).tobytes())


@lru_cache(maxsize=64)
def _means(length: int, cells: int) -> npt.NDArray[np.float32]:
    """A matrix of (cells, length) that averages equal parts, splitting a pixel where it must."""
    edges = np.linspace(0, length, cells + 1)
    below = np.clip(edges[:, None] - np.arange(length)[None, :], 0, 1)
    covered = np.diff(below, axis=0)
    means: npt.NDArray[np.float32] = (covered / covered.sum(axis=1, keepdims=True)).astype("f4")
    return means


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEvidence:
    """What a file from anywhere shows of its image; None for what it does not show."""

    label: Label | None = None
    """A hint, not a proof: anybody who can write the file can write its label."""
    carrier: Carrier = "xmp"
    """Where the label was read from."""
    image_sha256: str | None = None
    """Of the coded pixels; None where the file is not one whole webp, jpg or png."""
    file_sha256: str | None = None
    """Of every byte; None where the file is not one whole webp, jpg or png."""
    dhash: int | None = None
    """None where the file does not decode, and where the picture has too little contrast."""
    problem: str = ""
    """Why the pixels could not be read as they should; a clause."""


def read_evidence(body: bytes) -> FileEvidence:
    """Read everything that can be read; a broken file shows less and raises nothing."""
    try:
        structure = read_structure(body)
    except ImageError as error:
        label, carrier = _find_label(body)  # an avif has one, too
        return FileEvidence(
            label=label, carrier=carrier, dhash=_dhash_of(body, None), problem=str(error)
        )
    label, carrier = _find_label(body)
    return FileEvidence(
        label=label,
        carrier=carrier,
        image_sha256=image_sha256(body, structure),
        file_sha256=file_sha256(body),
        dhash=_dhash_of(body, structure),
    )


def _find_label(body: bytes) -> tuple[Label | None, Carrier]:
    """The signed label if there is one, else the XMP packet's."""
    try:
        packet = read_label(body)
        signed = _read_manifest_label(body)
    except ImageError:
        return None, "xmp"
    if signed is None:
        return packet, "xmp"
    # The signature covers the packet too, and the packet holds more than the manifest.
    same = packet is not None and packet.image_sha256 == signed.image_sha256
    return (packet if same else signed), "c2pa"


def _read_manifest_label(body: bytes) -> Label | None:
    if _JUMBF not in body:
        return None
    from flux_pipeline.images.c2pa import read_manifest  # noqa: PLC0415 - 40 ms for a rare file

    return read_manifest(body)


def _dhash_of(body: bytes, structure: Structure | None) -> int | None:
    """The difference hash; None without contrast, where it would fit too many other pictures."""
    try:
        if structure is not None and structure.width * structure.height <= MAX_PIXELS:
            small = decode(body, structure).small
        else:
            small = decode_anything(body, max_pixels=MAX_PIXELS)
    except ImageError:
        return None
    return difference_hash(np.asarray(small.convert("L"))) or None
