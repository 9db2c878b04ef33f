import pytest

from flux_pipeline.errors import ImageError
from flux_pipeline.images.formats import detect_format

HTML = b"<!DOCTYPE html><p>not found</p>\r\n"

BODIES = {
    b"": "not an image (empty, 0 bytes)",
    HTML: "not an image (text/html, 33 bytes)",
    b"\xef\xbb\xbf \n<HTML><body>": "not an image (text/html, 17 bytes)",
    b'{"error":"gone"}': "not an image (application/json, 16 bytes)",
    b" [1, 2]": "not an image (application/json, 7 bytes)",
    b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>': (
        "not an image (application/xml, 61 bytes)"
    ),
    b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>': (
        "an image that is neither webp, jpg nor png (image/svg+xml, 62 bytes)"
    ),
    b"GIF89a\x01\0\x01\0": "an image that is neither webp, jpg nor png (image/gif, 10 bytes)",
    b"%!PS-Adobe-3.0 EPSF-3.0": "not an image (application/postscript, 23 bytes)",
    b"%PDF-1.7": "not an image (application/pdf, 8 bytes)",
    b"BM\x36\0": "an image that is neither webp, jpg nor png (image/bmp, 4 bytes)",
    b"II*\0\x08": "an image that is neither webp, jpg nor png (image/tiff, 5 bytes)",
    b"\0\0\0\x1cftypavif": "an image that is neither webp, jpg nor png (image/avif, 12 bytes)",
    b"\0\0\0\x1cftypisom": "not an image (video/mp4, 12 bytes)",
    b"\x1f\x8b\x08\0": "not an image (application/gzip, 4 bytes)",
    b"upstream connect error\n": "not an image (text/plain, 23 bytes)",
    b"\0\x01\x02\x03": "not an image (unknown type, 4 bytes)",
    "prévu".encode("latin-1"): "not an image (unknown type, 5 bytes)",
    b"RIFF\x04\0\0\0WAVE": "not an image (unknown type, 12 bytes)",
    b"\x89PNG": "not an image (unknown type, 4 bytes)",
}


@pytest.mark.parametrize(("body", "message"), BODIES.items(), ids=lambda value: str(value)[:30])
def test_other_types_are_named_with_their_size(body: bytes, message: str) -> None:
    with pytest.raises(ImageError) as caught:
        detect_format(body)
    assert str(caught.value) == message


def test_message_repeats_nothing_of_the_body() -> None:
    body = b'{"detail": "Invalid token r8_0123456789abcdef"}'
    with pytest.raises(ImageError) as caught:
        detect_format(body)
    assert "r8_" not in str(caught.value)
    assert "detail" not in str(caught.value)
