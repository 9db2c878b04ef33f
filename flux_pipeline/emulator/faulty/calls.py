"""Faulty replies of all JSON calls, by name; a create's names end in ``_before`` or ``_after``."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from starlette.responses import HTMLResponse, Response

from flux_pipeline.emulator import chance, refusals
from flux_pipeline.emulator.emulator import Emulator
from flux_pipeline.emulator.faulty import wire
from flux_pipeline.emulator.refusals import Hint, Refusal, json_response

PAGE = """<!doctype html><html><head><title>502 Bad Gateway</title></head>
<body><h1>Sorry</h1><p>The gateway is being maintained.</p></body></html>"""
"""What a gateway shows instead of the API's answer."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call that goes wrong."""

    emulator: Emulator
    identity: str
    """What chance is drawn for, where a fault has variants."""
    good: Response
    """The reply that would have been right; an empty object where nothing was created."""

    def refused(self, refusal: Refusal) -> Response:
        """A refusal in the configured shape."""
        return refusal.response(self.emulator.options.error_shape)


def broken_reply(
    emulator: Emulator, fault: str, identity: str, good: Response | None = None
) -> Response:
    """The reply that a fault makes of the good one; None where nothing was created."""
    name = fault.removesuffix("_before").removesuffix("_after")
    return _BROKEN[name](Call(emulator, identity, good or json_response({})))


def server_error(emulator: Emulator, identity: str) -> Response:
    """One of the four 5xx that gateways send, as JSON or as their page."""
    status, page = _SERVER_ERRORS[chance.number(emulator.faults.seed, "5xx", identity) % 4]
    if page:
        return HTMLResponse(PAGE, status)
    body = {"title": "Server error", "detail": "Try again.", "status": status}
    return json_response(body, status)


_SERVER_ERRORS = ((500, False), (502, True), (503, False), (504, True))


def _cut(call: Call) -> Response:
    body = bytes(call.good.body)
    status = HTTPStatus(call.good.status_code)
    head = wire.response_head(
        f"{status} {status.phrase}",
        content_type="application/json",
        content_length=str(len(body)),
    )
    return wire.Raw(head + body[: len(body) // 2])


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
        return call.refused(refusals.throttled(wait, hint, call.emulator.clock()))

    return build


_BROKEN: dict[str, Callable[[Call], Response]] = {
    "reset": lambda _: wire.Reset(),
    "hang": lambda call: wire.Hang(call.emulator.faults.hang_seconds),
    "server_error": lambda call: server_error(call.emulator, call.identity),
    "timeout": lambda _: json_response({"detail": "Request timeout", "status": 408}, 408),
    "html": lambda _: HTMLResponse(PAGE),
    "truncated": _truncated,
    "cut": _cut,
    "empty": lambda call: Response(status_code=call.good.status_code),
    "garbage": lambda _: wire.Raw(b"\x16\x03\x01 this is not HTTP\r\n\r\n"),
    "no_id": _no_id,
    "error_object": lambda _: json_response(refusals.error_object(refusals.channel_refused())),
    "not_found": lambda call: call.refused(refusals.not_found()),
    "unauthorized": lambda call: call.refused(refusals.unauthenticated()),
    "payment_required": lambda call: call.refused(refusals.out_of_credit()),
    "throttled_header": _throttled("header"),
    "throttled_date": _throttled("date"),
    "throttled_body": _throttled("body"),
    "throttled_detail": _throttled("detail"),
    "throttled_reset": _throttled("reset"),
    "throttled_none": _throttled("none"),
    "throttled_huge": _throttled("header", factor=86_400),
    "other_version": lambda call: call.good,
}
