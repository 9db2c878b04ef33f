"""Faulty replies of downloads: what hostile or failing file hosts send instead of the image."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import anyio
import anyio.lowlevel
from PIL import Image
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from flux_pipeline.emulator import refusals
from flux_pipeline.emulator.emulator import Emulator
from flux_pipeline.emulator.faulty import bombs, wire
from flux_pipeline.emulator.faulty.calls import PAGE, server_error
from flux_pipeline.emulator.inputs import ImageFormat
from flux_pipeline.emulator.pictures.encode import CONTENT_TYPES, encode
from flux_pipeline.emulator.records import Record

METADATA_SERVICE = "http://169.254.169.254/latest/meta-data/"
"""Where a redirect leads that wants a cloud's credentials."""
_ENDLESS_BYTES = 2**30
"""Where even the endless body ends, should nobody stop reading."""


@dataclass(frozen=True, slots=True)
class Download:
    """One download that goes wrong."""

    emulator: Emulator
    record: Record
    path: str
    body: bytes
    """The file that would have been right."""

    @property
    def image_format(self) -> ImageFormat:
        """The format that was asked for."""
        return self.record.typed_input.output_format

    @property
    def content_type(self) -> str:
        """The type that was asked for."""
        return CONTENT_TYPES[self.image_format]

    def file(self, body: bytes) -> Response:
        """Other bytes under the right type and length."""
        return Response(body, media_type=self.content_type)

    def raw(self, body: bytes, **headers: str) -> Response:
        """Other bytes after these headers, and then the end of the connection."""
        return wire.Raw(
            wire.response_head("200 OK", content_type=self.content_type, **headers) + body
        )

    def refused(self, refusal: refusals.Refusal) -> Response:
        """A refusal in the configured shape."""
        return refusal.response(self.emulator.options.error_shape)

    def painted(self, image_format: ImageFormat, size: tuple[int, int]) -> bytes:
        """A plain image of this format and size, all black."""
        return encode(Image.new("RGB", size), image_format, 80)


def spoiled_file(fault: str, download: Download) -> Response:
    """The reply that a fault makes of a download."""
    return _SPOILED[fault](download)


def _slow(download: Download) -> Response:
    rate = download.emulator.faults.slow_bytes_per_second
    piece = max(1, rate // 10)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(download.body), piece):
            yield download.body[start : start + piece]
            await anyio.sleep(piece / rate)

    headers = {"content-length": str(len(download.body))}
    return StreamingResponse(pieces(), headers=headers, media_type=download.content_type)


def _endless(download: Download) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        yield download.body
        for _ in range(_ENDLESS_BYTES // 65_536):
            yield bytes(65_536)
            await anyio.lowlevel.checkpoint()

    return StreamingResponse(pieces(), media_type=download.content_type)


def _cut_with_length(download: Download) -> Response:
    return download.raw(_half(download.body), content_length=str(len(download.body)))


def _cut_chunked(download: Download) -> Response:
    half = _half(download.body)
    return download.raw(b"%x\r\n%b\r\n" % (len(half), half), transfer_encoding="chunked")


def _wrong_type(_: Download) -> Response:
    return Response(bombs.gif(), media_type="image/gif")


def _wrong_format(download: Download) -> Response:
    other: ImageFormat = "jpg" if download.image_format == "png" else "png"
    return download.file(download.painted(other, download.record.typed_input.size))


def _wrong_size(download: Download) -> Response:
    width, height = download.record.typed_input.size
    return download.file(download.painted(download.image_format, (width // 2, height // 2)))


def _gzip_bomb(download: Download) -> Response:
    headers = {"content-encoding": "gzip"}
    return Response(bombs.gzip_bomb(), headers=headers, media_type=download.content_type)


def _half(body: bytes) -> bytes:
    return body[: len(body) // 2]


_SPOILED: dict[str, Callable[[Download], Response]] = {
    "reset": lambda _: wire.Reset(),
    "hang": lambda download: wire.Hang(download.emulator.faults.hang_seconds),
    "not_found": lambda download: download.refused(refusals.not_found()),
    "expired": lambda download: download.refused(refusals.not_found()),
    "forbidden": lambda download: download.refused(refusals.forbidden()),
    "server_error": lambda download: server_error(download.emulator, download.record.identity),
    "slow": _slow,
    "cut_with_length": _cut_with_length,
    "cut_without_length": lambda download: download.raw(_half(download.body), connection="close"),
    "cut_chunked": _cut_chunked,
    "half_file": lambda download: download.file(_half(download.body)),
    "trailing_bytes": lambda download: download.file(download.body + b"<script>alert(1)</script>"),
    "empty": lambda download: download.file(b""),
    "wrong_type": _wrong_type,
    "wrong_format": _wrong_format,
    "html": lambda _: HTMLResponse(PAGE),
    "gzip_bomb": _gzip_bomb,
    "pixel_bomb": lambda download: download.file(bombs.pixel_bomb(download.image_format)),
    "endless": _endless,
    "wrong_size": _wrong_size,
    "blank": lambda download: download.file(
        download.painted(download.image_format, download.record.typed_input.size)
    ),
    "redirect_private": lambda _: RedirectResponse(METADATA_SERVICE, 302),
    "redirect_other_host": lambda download: RedirectResponse(
        download.emulator.options.trap_origin + download.path, 302
    ),
}
