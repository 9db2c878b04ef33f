"""Real files of every kind that the three formats know, made by Pillow, small and always alike."""

import io
import zlib
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageDraw, PngImagePlugin

from flux_pipeline.images.formats import CONTAINERS, read_structure

WIDTH, HEIGHT = 60, 45
OTHER_PACKET = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"


@cache
def icc() -> bytes:
    profile: bytes = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile


@cache
def exif() -> bytes:
    """EXIF with a description and an orientation, which no call here may act upon."""
    data = Image.Exif()
    data[0x010E] = "a description"
    data[0x0112] = 6
    return data.tobytes()


def exif_with_thumbnail() -> bytes:
    """EXIF whose second directory holds a whole JPEG, markers and all."""
    small = encode(picture(16, 12), "JPEG")
    tiff = b"II*\0" + (8).to_bytes(4, "little")
    first = b"\0\0" + (14).to_bytes(4, "little")
    entries = b"".join(
        tag.to_bytes(2, "little") + b"\4\0\1\0\0\0" + value.to_bytes(4, "little")
        for tag, value in ((0x0201, 44), (0x0202, len(small)))
    )
    return b"Exif\0\0" + tiff + first + b"\2\0" + entries + b"\0\0\0\0" + small


def picture(width: int = WIDTH, height: int = HEIGHT, *, seed: int = 5) -> Image.Image:
    """Soft coloured noise with a disc: nothing in it is flat, and no last row is black or grey."""
    rng = np.random.default_rng(seed)
    noise: npt.NDArray[np.uint8] = rng.integers(30, 226, (9, 12, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
    box = (width // 4, height // 4, width // 2, height // 2)
    ImageDraw.Draw(image).ellipse(box, fill=(250, 60, 20))
    return image


def translucent(image: Image.Image) -> Image.Image:
    clear = image.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(image.size))
    return clear


def encode(image: Image.Image, name: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, name, **options)
    return out.getvalue()


def _text_chunks() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "kept", zip=True)
    info.add_itxt("XML:com.adobe.xmp", OTHER_PACKET.decode(), zip=True)
    return info


@cache
def samples() -> dict[str, bytes]:
    """File name to bytes; none is animated."""
    rgb = picture()
    rgba = translucent(rgb)
    deep = Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257)
    both = {"icc_profile": icc(), "exif": exif()}
    return {
        "rgb.png": encode(rgb, "PNG"),
        "rgba.png": encode(rgba, "PNG", **both),
        "grey.png": encode(rgb.convert("L"), "PNG"),
        "grey-alpha.png": encode(rgba.convert("LA"), "PNG"),
        "palette.png": encode(rgb.quantize(16), "PNG", transparency=3),
        "16-bit.png": encode(deep, "PNG"),
        "1-bit.png": encode(rgb.convert("1"), "PNG"),
        "text.png": encode(rgb, "PNG", pnginfo=_text_chunks()),
        "baseline.jpg": encode(rgb, "JPEG"),
        "progressive.jpg": encode(rgb, "JPEG", progressive=True, **both),
        "grey.jpg": encode(rgb.convert("L"), "JPEG", restart_marker_blocks=4),
        "cmyk.jpg": encode(rgb.convert("CMYK"), "JPEG"),
        "thumbnail.jpg": encode(rgb, "JPEG", exif=exif_with_thumbnail(), comment=b"kept"),
        "xmp.jpg": encode(rgb, "JPEG", xmp=OTHER_PACKET, exif=exif()),
        "lossy.webp": encode(rgb, "WEBP"),
        "lossless.webp": encode(rgb, "WEBP", lossless=True),
        "alpha.webp": encode(rgba, "WEBP", **both),
        "lossless-alpha.webp": encode(rgba, "WEBP", lossless=True),
        "xmp.webp": encode(rgb, "WEBP", xmp=OTHER_PACKET, icc_profile=icc()),
    }


@cache
def animations() -> dict[str, bytes]:
    frames = {"save_all": True, "append_images": [picture(seed=6)]}
    return {
        "animated.png": encode(picture(), "PNG", **frames),
        "animated.webp": encode(picture(), "WEBP", **frames),
    }


def insert_xmp(body: bytes, packet: bytes | None) -> bytes:
    """The same file with this packet as its only XMP; None: without XMP."""
    structure = read_structure(body)
    return CONTAINERS[structure.image_format].replace_xmp(body, structure, packet)


def strip_xmp(body: bytes) -> bytes:
    return insert_xmp(body, None)


def format_of(name: str) -> str:
    return name.rpartition(".")[2]


def pixels(body: bytes) -> bytes:
    """Every pixel as the decoder gives it."""
    with Image.open(io.BytesIO(body)) as image:
        return image.mode.encode() + image.tobytes()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return len(data).to_bytes(4) + kind + data + checksum.to_bytes(4)


def riff_chunk(kind: bytes, data: bytes) -> bytes:
    return kind + len(data).to_bytes(4, "little") + data + b"\0" * (len(data) % 2)


def riff(*chunks: bytes) -> bytes:
    form = b"WEBP" + b"".join(chunks)
    return b"RIFF" + len(form).to_bytes(4, "little") + form


def repair(body: bytes) -> bytes:
    """The same bytes with right checksums and sizes, so that damage gets past the first check."""
    if body.startswith(b"RIFF") and len(body) > 12:
        return body[:4] + (len(body) - 8).to_bytes(4, "little") + body[8:]
    if not body.startswith(b"\x89PNG\r\n\x1a\n"):
        return body
    parts, position = [body[:8]], 8
    while position + 12 <= len(body):
        end = position + 12 + int.from_bytes(body[position : position + 4])
        if end > len(body):
            break
        parts.append(png_chunk(body[position + 4 : position + 8], body[position + 8 : end - 4]))
        position = end
    return b"".join([*parts, body[position:]])
