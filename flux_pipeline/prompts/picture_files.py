"""Reads the files that prompts name as pictures: type, size and checksum, before anything is paid.

A file lies in the prompt set's folder or below it, as tables do. Its bytes are read once for each
state of the file, and a request names them by their checksum.
"""

import hashlib
import io
from functools import lru_cache
from pathlib import Path, PurePosixPath

from flux_pipeline.request import InputPicture

MAX_BYTES = 100 * 2**20
"""The provider's limit for an uploaded file. Source: its API document, 413 of POST /v1/files."""
_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif"}
_MANY = 100_000
_TAIL = 2**16


def read_picture(folder: Path, name: str) -> InputPicture:
    """The picture of a file, named from ``folder`` on.

    Raises:
        ValueError: No such file, outside the folder, too large, cut off, or no picture.
    """
    path = picture_path(folder, name)
    try:
        stat = path.stat()
    except OSError as error:
        raise ValueError(f"can't be read: {error.strerror}") from error
    if stat.st_size > MAX_BYTES:
        raise ValueError(
            f"has {stat.st_size:,} bytes; at most {MAX_BYTES:,} can be sent: make it smaller"
        )
    return _read(str(path), stat.st_mtime_ns, stat.st_size)


def picture_path(folder: Path, name: str) -> Path:
    """The file that a name means, seen from ``folder``.

    Raises:
        ValueError: It leads out of the folder, or there is no such file.
    """
    if not name.strip():
        raise ValueError("is empty: name a file, or leave it out")
    if "://" in name or name.startswith("data:"):
        raise ValueError("is neither a file nor an https:// address")
    parts = PurePosixPath(name)
    if "\\" in name or "\0" in name or parts.is_absolute() or ".." in parts.parts or name[0] == "~":
        raise ValueError("must lie in the folder of the prompt set or below: name it from there on")
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError("leads out of the folder of the prompt set, by a link")
    if path.is_dir():
        raise ValueError("is a folder; name one file")
    if not path.is_file():
        raise ValueError(f"no such file, seen from {folder}")
    return path


@lru_cache(maxsize=_MANY)
def _read(path: str, changed_at: int, size: int) -> InputPicture:
    del changed_at, size  # another state of the file is another picture
    body = Path(path).read_bytes()
    kind, width, height = inspect_picture(body)
    return InputPicture(
        sha256=hashlib.sha256(body).hexdigest(),
        uri=path,
        bytes=len(body),
        content_type=kind,
        width=width,
        height=height,
    )


def inspect_picture(body: bytes) -> tuple[str, int, int]:
    """The media type, width and height (px) of a picture, by its own bytes.

    Raises:
        ValueError: No picture of a type that models take, or one that is cut off.
    """
    # Only prompts that name files need it, and it is heavy.
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415

    try:
        with Image.open(io.BytesIO(body)) as image:
            kind, (width, height) = image.format or "", image.size
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise ValueError(f"is no picture ({len(body):,} bytes)") from error
    except Image.DecompressionBombError as error:
        raise ValueError("has too many pixels") from error
    if kind == "MPO":  # a JPEG with a second picture behind it, as cameras write it
        kind = "JPEG"
    if kind not in _TYPES:
        raise ValueError(f"is {kind}; models take JPEG, PNG, WebP and GIF: convert it")
    if _is_cut(kind, body):
        raise ValueError(f"is cut off: a {kind} file of {len(body):,} bytes without its end")
    return _TYPES[kind], width, height


def _is_cut(kind: str, body: bytes) -> bool:
    if kind == "JPEG":
        return b"\xff\xd9" not in body[-_TAIL:]
    if kind == "PNG":
        return b"IEND" not in body[-_TAIL:]
    if kind == "WEBP":
        return int.from_bytes(body[4:8], "little") + 8 > len(body)
    return b"\x3b" not in body[-_TAIL:]
