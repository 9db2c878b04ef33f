"""Output files: the same bytes for the same version, input, seed and batch number.

A file is a drawn scene, or (``cheap``) one base image with a tag that makes it distinct, which
takes microseconds.
"""

import io
import json
import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image

from flux_pipeline.emulator import chance
from flux_pipeline.emulator.inputs import ImageFormat, ModelInput
from flux_pipeline.emulator.scenes import draw

_NOT_IN_PICTURE = frozenset({"seed", "num_outputs", "output_format", "output_quality"})
TAG_BYTES = 32
"""Length of the tag that makes one encoded base into distinct files."""
_NAME = b"fpTg"
"""Of the tag; its letters' cases make a PNG chunk ancillary, private and safe to copy."""
CONTENT_TYPES: dict[str, str] = {"webp": "image/webp", "jpg": "image/jpeg", "png": "image/png"}


@dataclass(frozen=True, slots=True)
class Picture:
    """One output, by all that it depends on."""

    version: str
    input: ModelInput
    seed: int
    """The one sent, or the one drawn."""
    index: int
    """Batch number, from 0."""

    def digest(self) -> bytes:
        """32 bytes that name the picture, whatever its format and quality."""
        fields = {name: value for name, value in self.input if name not in _NOT_IN_PICTURE}
        return chance.digest(self.version, json.dumps(fields), self.seed, self.index)

    def file(self, *, cheap: bool, size: tuple[int, int] | None = None) -> bytes:
        """The encoded file; ``size`` in px is the input's unless a fault wants another."""
        wanted = size or self.input.size
        if cheap:
            return tagged(wanted, self.input.output_format, self.digest())
        image = draw(self.digest(), self.input.prompt, wanted)
        return encode(image, self.input.output_format, self.input.output_quality)


def encode(image: Image.Image, image_format: ImageFormat, quality: int) -> bytes:
    """The file of an image; ``quality`` is 0 to 100 and has no effect on png."""
    buffer = io.BytesIO()
    match image_format:
        case "webp":
            # The default method takes four times as long, to save a few bytes.
            image.save(buffer, "WEBP", quality=quality, method=0)
        case "jpg":
            image.save(buffer, "JPEG", quality=max(1, quality))
        case "png":
            image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def tagged(size: tuple[int, int], image_format: ImageFormat, tag: bytes) -> bytes:
    """A valid file of this size that differs from others by its tag only; costs microseconds.

    The pixels are the same for every tag. The tag lies in a chunk that decoders skip, and every
    length and checksum of the container is right.
    """
    before, after = _base(size, image_format)
    chunk = _NAME + tag.ljust(TAG_BYTES, b"\0")[:TAG_BYTES]
    if image_format == "png":
        chunk += struct.pack(">I", zlib.crc32(chunk))
    return before + chunk + after


@lru_cache(maxsize=64)
def _base(size: tuple[int, int], image_format: ImageFormat) -> tuple[bytes, bytes]:
    """What stands before and after the tag's chunk, lengths included."""
    ramp = Image.linear_gradient("L").resize(size)
    image = Image.merge("RGB", (ramp, ramp.transpose(Image.Transpose.ROTATE_180), ramp))
    file = encode(image, image_format, 80)
    match image_format:
        case "webp":
            return _webp_before(file[12:], size), b""
        case "jpg":
            comment = b"\xff\xfe" + struct.pack(">H", 2 + len(_NAME) + TAG_BYTES)
            return file[:2] + comment, file[2:]
        case "png":
            return file[:-12] + struct.pack(">I", TAG_BYTES), file[-12:]


def _webp_before(picture: bytes, size: tuple[int, int]) -> bytes:
    """The extended container, the only one that may hold a chunk of ours, up to its content."""
    width, height = (side - 1 for side in size)
    canvas = struct.pack("<IHBHB", 0, width & 0xFFFF, width >> 16, height & 0xFFFF, height >> 16)
    body = b"WEBPVP8X" + struct.pack("<I", len(canvas)) + canvas + picture
    body += _NAME + struct.pack("<I", len(_NAME) + TAG_BYTES)
    return b"RIFF" + struct.pack("<I", len(body) + len(_NAME) + TAG_BYTES) + body
