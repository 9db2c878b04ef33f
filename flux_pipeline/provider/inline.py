"""Decodes images that lie in a reply itself: ``data:`` URIs."""

import base64
import binascii
from urllib.parse import unquote_to_bytes

from flux_pipeline.errors import DownloadError


def decode_data_uri(uri: str, limit: int) -> bytes:
    """Return the bytes of a ``data:`` URI, at most ``limit``.

    Raises:
        DownloadError: For one that is too long, or damaged.
    """
    head, comma, data = uri.partition(",")
    if not comma:
        raise DownloadError("a data URI without data", retryable=True)
    if len(data) > limit * 4 // 3 + 4:
        raise DownloadError(f"a data URI of {len(data)} characters: more than {limit} bytes")
    if not head.lower().endswith(";base64"):
        return unquote_to_bytes(data)
    coded = b"".join(unquote_to_bytes(data).split()).rstrip(b"=")
    try:
        return base64.b64decode(coded + b"=" * (-len(coded) % 4), validate=True)
    except binascii.Error:
        raise DownloadError("a data URI whose base64 is damaged", retryable=True) from None
