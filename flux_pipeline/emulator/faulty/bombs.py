"""Small files that cost a careless reader much: made once, and never unpacked here."""

import gzip
import io
import struct
import zlib
from functools import lru_cache

from PIL import Image

from flux_pipeline.emulator.inputs import ImageFormat
from flux_pipeline.emulator.pictures.encode import encode

UNPACKED_BYTES = 64 * 2**20
"""What the gzip bomb becomes."""

_CLAIMED: dict[str, int] = {"webp": 16_383, "jpg": 60_000, "png": 60_000}
"""Width and height that a pixel bomb claims, px: the most that WebP can say."""


@lru_cache(maxsize=1)
def gzip_bomb() -> bytes:
    """64 KB that unpack to 64 MB of zeros."""
    return gzip.compress(bytes(UNPACKED_BYTES), compresslevel=6, mtime=0)


@lru_cache(maxsize=1)
def gif() -> bytes:
    """A picture in a format that nobody asks for."""
    buffer = io.BytesIO()
    Image.new("P", (64, 64)).save(buffer, "GIF")
    return buffer.getvalue()


@lru_cache(maxsize=3)
def pixel_bomb(image_format: ImageFormat) -> bytes:
    """A few hundred bytes whose header claims gigapixels, or as many as the format can say."""
    file = bytearray(encode(Image.new("RGB", (64, 64)), image_format, 80))
    side = _CLAIMED[image_format]
    match image_format:
        case "png":
            file[16:24] = struct.pack(">II", side, side)
            file[29:33] = struct.pack(">I", zlib.crc32(file[12:29]))
        case "jpg":
            frame = file.index(b"\xff\xc0")
            file[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
        case "webp":
            file[26:30] = struct.pack("<HH", side, side)
    return bytes(file)
