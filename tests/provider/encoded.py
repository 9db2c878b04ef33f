"""Bodies in encodings that servers use, the same bytes at each time."""

import gzip
from functools import partial

SIGNATURE = b";chunk-signature=" + b"ad80c730a21e5b8d" * 4
packed = partial(gzip.compress, mtime=0)


def aws_chunked(body: bytes, *, size: int = 1000, extension: bytes = b"") -> bytes:
    """The body as S3's clients send it: chunks of ``size`` bytes, and an empty one at the end."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in [*pieces, b""])
