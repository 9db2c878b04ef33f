"""Faulty replies of the API and of downloads, by the name of the fault.

``broken_reply`` builds those of JSON calls, ``spoiled_file`` those of downloads. A create's faults
end in ``_before`` or ``_after``: nothing was created, or it was created and charged.
"""

import asyncio
import gzip
import io
import json
import socket
import struct
import zlib
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import anyio
import anyio.lowlevel
from PIL import Image
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from flux_pipeline.emulator import chance, replies
from flux_pipeline.emulator.emulator import Emulator
from flux_pipeline.emulator.inputs import ImageFormat
from flux_pipeline.emulator.pictures import CONTENT_TYPES, encode
from flux_pipeline.emulator.records import Record
from flux_pipeline.emulator.replies import Hint, Refusal, json_response

GATEWAY_PAGE = """<!doctype html><html><head><title>502 Bad Gateway</title></head>
<body><h1>Sorry</h1><p>The gateway is being maintained.</p></body></html>"""
"""A gateway's error page, sent instead of the API's answer."""
_SERVER_ERRORS = ((500, False), (502, True), (503, False), (504, True))
METADATA_SERVICE = "http://169.254.169.254/latest/meta-data/"
"""Target of a redirect that would read a cloud's credentials."""
_ENDLESS_BYTES = 2**30
"""Size at which even the endless body ends."""
UNPACKED_BYTES = 64 * 2**20
"""Size of the unpacked gzip bomb, bytes."""
_CLAIMED: dict[str, int] = {"webp": 16_383, "jpg": 60_000, "png": 60_000}
"""Width and height that a pixel bomb claims, px: the most that WebP can say."""
_NO_LINGER = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends RST instead of FIN."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call that goes wrong."""

    emulator: Emulator
    identity: str
    """Key of the random numbers, where a fault has variants."""
    good: Response
    """The reply without the fault; an empty object where nothing was created."""

    def refused(self, refusal: Refusal) -> Response:
        """A refusal in the configured shape."""
        return refusal.response(self.emulator.options.error_shape)


@dataclass(frozen=True, slots=True)
class Download:
    """One download that goes wrong."""

    emulator: Emulator
    record: Record
    path: str
    body: bytes
    """The file without the fault."""

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
        return Raw(response_head("200 OK", content_type=self.content_type, **headers) + body)

    def refused(self, refusal: replies.Refusal) -> Response:
        """A refusal in the configured shape."""
        return refusal.response(self.emulator.options.error_shape)

    def painted(self, image_format: ImageFormat, size: tuple[int, int]) -> bytes:
        """A plain image of this format and size, all black."""
        return encode(Image.new("RGB", size), image_format, 80)


def broken_reply(
    emulator: Emulator, fault: str, identity: str, good: Response | None = None
) -> Response:
    """Build the reply of a faulty call from the good one (None where nothing was created)."""
    name = fault.removesuffix("_before").removesuffix("_after")
    return _BROKEN[name](Call(emulator, identity, good or json_response({})))


def server_error(emulator: Emulator, identity: str) -> Response:
    """One of the four 5xx that gateways send, as JSON or as their page."""
    status, page = _SERVER_ERRORS[chance.number(emulator.faults.seed, "5xx", identity) % 4]
    if page:
        return HTMLResponse(GATEWAY_PAGE, status)
    body = {"title": "Server error", "detail": "Try again.", "status": status}
    return json_response(body, status)


def _cut(call: Call) -> Response:
    body = bytes(call.good.body)
    status = HTTPStatus(call.good.status_code)
    head = response_head(
        f"{status} {status.phrase}",
        content_type="application/json",
        content_length=str(len(body)),
    )
    return Raw(head + body[: len(body) // 2])


def _truncated(call: Call) -> Response:
    body = bytes(call.good.body)
    half = body[: len(body) // 2]
    return Response(half, call.good.status_code, media_type="application/json")


def _no_id(call: Call) -> Response:
    body = json.loads(bytes(call.good.body))
    kept = {name: value for name, value in body.items() if name not in ("id", "data", "urls")}
    return json_response(kept, call.good.status_code)


def _throttled(hint: Hint, factor: int = 1) -> Callable[[Call], Response]:
    def build(call: Call) -> Response:
        wait = call.emulator.faults.hint_seconds * factor
        return call.refused(replies.throttled(wait, hint, call.emulator.clock()))

    return build


_BROKEN: dict[str, Callable[[Call], Response]] = {
    "reset": lambda _: Reset(),
    "hang": lambda call: Hang(call.emulator.faults.hang_seconds),
    "server_error": lambda call: server_error(call.emulator, call.identity),
    "timeout": lambda _: json_response({"detail": "Request timeout", "status": 408}, 408),
    "html": lambda _: HTMLResponse(GATEWAY_PAGE),
    "truncated": _truncated,
    "cut": _cut,
    "empty": lambda call: Response(status_code=call.good.status_code),
    "garbage": lambda _: Raw(b"\x16\x03\x01 this is not HTTP\r\n\r\n"),
    "no_id": _no_id,
    "error_object": lambda _: json_response(replies.error_object(replies.channel_refused())),
    "not_found": lambda call: call.refused(replies.not_found()),
    "unauthorized": lambda call: call.refused(replies.unauthenticated()),
    "payment_required": lambda call: call.refused(replies.out_of_credit()),
    "refused": lambda call: call.refused(replies.refused_upload()),
    "too_large": lambda call: call.refused(replies.too_large(call.emulator.options.max_file_bytes)),
    "throttled_header": _throttled("header"),
    "throttled_date": _throttled("date"),
    "throttled_body": _throttled("body"),
    "throttled_detail": _throttled("detail"),
    "throttled_reset": _throttled("reset"),
    "throttled_none": _throttled("none"),
    "throttled_huge": _throttled("header", factor=86_400),
    "other_version": lambda call: call.good,
}


def spoiled_file(fault: str, download: Download) -> Response:
    """Build the reply of a faulty download."""
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
    return Response(gif(), media_type="image/gif")


def _wrong_format(download: Download) -> Response:
    other: ImageFormat = "jpg" if download.image_format == "png" else "png"
    return download.file(download.painted(other, download.record.typed_input.size))


def _wrong_size(download: Download) -> Response:
    width, height = download.record.typed_input.size
    return download.file(download.painted(download.image_format, (width // 2, height // 2)))


def _gzip_bomb(download: Download) -> Response:
    headers = {"content-encoding": "gzip"}
    return Response(gzip_bomb(), headers=headers, media_type=download.content_type)


def _half(body: bytes) -> bytes:
    return body[: len(body) // 2]


@lru_cache(maxsize=1)
def gzip_bomb() -> bytes:
    """64 KB that unpack to 64 MB of zeros."""
    return gzip.compress(bytes(UNPACKED_BYTES), compresslevel=6, mtime=0)


@lru_cache(maxsize=1)
def gif() -> bytes:
    """A small GIF, a format that the model doesn't make."""
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


_SPOILED: dict[str, Callable[[Download], Response]] = {
    "reset": lambda _: Reset(),
    "hang": lambda download: Hang(download.emulator.faults.hang_seconds),
    "not_found": lambda download: download.refused(replies.not_found()),
    "expired": lambda download: download.refused(replies.not_found()),
    "forbidden": lambda download: download.refused(replies.forbidden()),
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
    "html": lambda _: HTMLResponse(GATEWAY_PAGE),
    "gzip_bomb": _gzip_bomb,
    "pixel_bomb": lambda download: download.file(pixel_bomb(download.image_format)),
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


class Abrupt(Response):
    """A response that ends the connection instead of being sent.

    It reaches through the ASGI scope to the connection, which the server puts there. Without that
    server (an in-process transport) it is a ``ConnectionResetError``.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """End the connection; nothing is sent in the ordinary way."""
        del send
        await self.end(_transport(scope), receive)

    @abstractmethod
    async def end(self, transport: Any, receive: Receive) -> None:
        """End the connection in this response's way, and wait until the server has noticed."""


class Raw(Abrupt):
    """These bytes and nothing else, then the connection is closed in an orderly way (FIN)."""

    def __init__(self, octets: bytes) -> None:
        super().__init__()
        self.octets = octets

    async def end(self, transport: Any, receive: Receive) -> None:
        """Write past the HTTP layer, and close."""
        transport.write(self.octets)
        transport.close()
        await _disconnected(receive)


class Reset(Abrupt):
    """The connection is reset (TCP RST) without a reply."""

    async def end(self, transport: Any, receive: Receive) -> None:
        """Reset, and return once the server has noticed."""
        transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER
        )
        transport.abort()
        await _disconnected(receive)


class Hang(Abrupt):
    """Nothing is answered; after ``seconds``, or when the client has gone, the connection ends."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    async def end(self, transport: Any, receive: Receive) -> None:
        """Wait until the client hangs up, or until ``seconds`` have passed."""
        try:
            await asyncio.wait_for(_disconnected(receive), self.seconds)
        except TimeoutError:
            await Reset().end(transport, receive)


def response_head(status: str, **headers: str) -> bytes:
    """A status line and headers, such as ``response_head("200 OK", content_type="image/png")``."""
    lines = [f"HTTP/1.1 {status}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def _transport(scope: Scope) -> Any:
    protocol = scope.get("state", {}).get("protocol")
    if protocol is None:
        raise ConnectionResetError("the emulator reset the connection")
    return protocol.transport


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
