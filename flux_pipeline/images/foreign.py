"""What bytes look like that are no image of ours: for the message, never for a decision."""

_BINARY = (
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"\xff\x0a", "image/jxl"),
    (b"\0\0\0\x0cJXL ", "image/jxl"),
    (b"%!PS", "application/postscript"),
    (b"\xc5\xd0\xd3\xc6", "application/postscript"),
    (b"%PDF", "application/pdf"),
    (b"\x1f\x8b", "application/gzip"),
    (b"PK\x03\x04", "application/zip"),
)
_BRANDS = {b"avif": "image/avif", b"avis": "image/avif", b"heic": "image/heic"}
_HEAD = 1024


def describe(body: bytes) -> str:
    """One clause that names the type and the size, and nothing of what the bytes say."""
    if not body:
        return "not an image (empty, 0 bytes)"
    kind = _media_type(body)
    if kind.startswith("image/"):
        return f"an image that is neither webp, jpg nor png ({kind}, {len(body)} bytes)"
    return f"not an image ({kind}, {len(body)} bytes)"


def _media_type(body: bytes) -> str:
    for magic, kind in _BINARY:
        if body.startswith(magic):
            return kind
    if body[4:8] == b"ftyp":
        return _BRANDS.get(body[8:12], "video/mp4")
    return _text_type(body)


def _text_type(body: bytes) -> str:
    head = body[:_HEAD].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if b"<svg" in head:
        return "image/svg+xml"
    if head.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "text/html"
    if head.startswith(b"<"):
        return "application/xml"
    if head.startswith((b"{", b"[")):
        return "application/json"
    try:
        text = body[:_HEAD].decode("ascii")
    except UnicodeDecodeError:
        return "unknown type"
    return "text/plain" if text.isprintable() or text.strip().isprintable() else "unknown type"
