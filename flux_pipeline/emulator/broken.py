"""The faulty replies of all JSON calls, by name; a create's names carry ``_before`` or ``_after``."""

import json
from collections.abc import Callable

from starlette.responses import HTMLResponse, Response

from flux_pipeline.emulator import chance, refusals, wire
from flux_pipeline.emulator.emulator import Emulator
from flux_pipeline.emulator.refusals import json_response

_PAGE = """<!doctype html><html><head><title>502 Bad Gateway</title></head>
<body><h1>Sorry</h1><p>The gateway is being maintained.</p></body></html>"""


async def reply(emulator: Emulator, fault: str, good: Response | None) -> Response:
    """The reply that a fault makes of the good one; None where nothing was created."""
    name = fault.removesuffix("_before").removesuffix("_after")
    return _BROKEN[name](emulator, good or json_response({}))


def _server_error(emulator: Emulator, good: Response) -> Response:
    statuses = (500, 502, 503, 504)
    status = statuses[chance.number(emulator.faults.seed, bytes(good.body)) % 4]
    if status in (502, 504):
        return HTMLResponse(_PAGE, status)
    return json_response(
        {"title": "Server error", "detail": "Try again.", "status": status}, status
    )


def _cut(_: Emulator, good: Response) -> Response:
    body = bytes(good.body)
    start = wire.head("200 OK", content_type="application/json", content_length=str(len(body)))
    return wire.Raw(start + body[: len(body) // 2])


def _truncated(_: Emulator, good: Response) -> Response:
    body = bytes(good.body)
    return Response(body[: len(body) // 2], good.status_code, media_type="application/json")


def _no_id(_: Emulator, good: Response) -> Response:
    body = json.loads(bytes(good.body))
    kept = {name: value for name, value in body.items() if name not in ("id", "data", "urls")}
    return json_response(kept, good.status_code)


def _throttled(hint: refusals.Hint, factor: int = 1) -> Callable[[Emulator, Response], Response]:
    def build(emulator: Emulator, _: Response) -> Response:
        wait = emulator.faults.hint_seconds * factor
        refusal = refusals.throttled(wait, hint, emulator.clock())
        return refusal.response(emulator.options.error_shape)

    return build


def _refused(make: Callable[[], refusals.Refusal]) -> Callable[[Emulator, Response], Response]:
    return lambda emulator, _: make().response(emulator.options.error_shape)


_BROKEN: dict[str, Callable[[Emulator, Response], Response]] = {
    "reset": lambda *_: wire.Reset(),
    "hang": lambda emulator, _: wire.Hang(emulator.faults.hang_seconds),
    "server_error": _server_error,
    "timeout": lambda *_: json_response({"detail": "Request timeout", "status": 408}, 408),
    "html": lambda *_: HTMLResponse(_PAGE),
    "truncated": _truncated,
    "cut": _cut,
    "empty": lambda _, good: Response(status_code=good.status_code),
    "garbage": lambda *_: wire.Raw(b"\x16\x03\x01 this is not HTTP\r\n\r\n"),
    "no_id": _no_id,
    "error_object": lambda *_: json_response(
        refusals.error_object(refusals.malformed("The channel refused this request."))
    ),
    "not_found": _refused(refusals.not_found),
    "unauthorized": _refused(refusals.unauthenticated),
    "payment_required": _refused(refusals.out_of_credit),
    "throttled_header": _throttled("header"),
    "throttled_date": _throttled("date"),
    "throttled_body": _throttled("body"),
    "throttled_detail": _throttled("detail"),
    "throttled_reset": _throttled("reset"),
    "throttled_none": _throttled("none"),
    "throttled_huge": _throttled("header", factor=86_400),
    "other_version": lambda _, good: good,
}
