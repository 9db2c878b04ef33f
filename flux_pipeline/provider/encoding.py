"""Undoes content encodings that are really there, known by their first bytes, within a size limit.

The headers don't count. CDNs and gateways name encodings that are not there (``utf-8``,
``aws-chunked``, an empty one), and compress although ``identity`` was asked for.
"""

import re
import zlib
from collections.abc import Callable

_GZIP = b"\x1f\x8b"
_ZLIB_LEVELS = (b"\x01", b"\x5e", b"\x9c", b"\xda")
_ANY_WINDOW = 32 + zlib.MAX_WBITS
"""gzip or zlib, whichever the first bytes say."""
_AWS_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})(?:;[!-~]{1,400})?\r\n")
"""The size of one chunk and, where the chunks are signed, its signature."""
_MAX_ENCODINGS = 3


def undo_encoding(body: bytes, limit: int, is_plain: Callable[[bytes], bool]) -> bytes | None:
    """Take off gzip, zlib and S3's ``aws-chunked`` until the body is plain, at most three of them.

    Other bytes, and encodings that are damaged, come back as they are. None for more than
    ``limit`` bytes, as a decompression bomb gives: no more than that is ever unpacked.
    """
    for _ in range(_MAX_ENCODINGS):
        if is_plain(body):
            break
        if _AWS_CHUNK.match(body):
            inner = _join_chunks(body)
        elif body.startswith(_GZIP) or (body[:1] == b"\x78" and body[1:2] in _ZLIB_LEVELS):
            inner = _inflate(body, limit)
        else:
            break
        if inner is None:
            break
        if len(inner) > limit:
            return None
        body = inner
    return body


def _inflate(body: bytes, limit: int) -> bytes | None:
    """Unpack all members of a gzip file, or one zlib stream; None where it is damaged.

    More than ``limit`` bytes are returned only as a sign that there are more.
    """
    plain = b""
    while True:
        unpacker = zlib.decompressobj(_ANY_WINDOW)
        try:
            plain += unpacker.decompress(body, limit + 1 - len(plain))
        except zlib.error:
            return None
        if len(plain) > limit:
            return plain
        if not unpacker.eof:
            return None
        body = unpacker.unused_data
        if not body.startswith(_GZIP):
            return plain


def _join_chunks(body: bytes) -> bytes | None:
    """Join the data of an S3 body in signed or unsigned chunks; None where it is damaged."""
    data: list[bytes] = []
    at = 0
    while head := _AWS_CHUNK.match(body, at):
        size = int(head[1], 16)
        if size == 0:
            return b"".join(data)
        data.append(body[head.end() : head.end() + size])
        at = head.end() + size + len(b"\r\n")
    return None
