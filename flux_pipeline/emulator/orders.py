"""A POST as it comes, made into an order: body, version, ``Prefer`` and ``Cancel-After``."""

import json
import re
from typing import Any

from starlette.requests import Request

from flux_pipeline.emulator import refusals
from flux_pipeline.emulator.inputs import InvalidField, InvalidInput, input_sha, read_input
from flux_pipeline.emulator.purchase import Order

MAX_WAIT_SECONDS = 60.0

_VERSION = re.compile(r"(?:(?P<model>[A-Za-z0-9._-]+/[A-Za-z0-9._-]+):)?(?P<version>[0-9a-f]{64})")
_WAIT = re.compile(r"(?:.*,)?\s*wait(?:\s*=\s*([0-9]+))?\s*(?:,.*)?")
DURATION = r"(?=[0-9])(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,9})s?)?"
"""A time such as ``90``, ``90s``, ``1m`` or ``1h30m``; its groups are hours, minutes, seconds."""


async def read_order(request: Request) -> Order:
    """The order in a create's body and headers.

    Raises:
        Refusal: 400 for what can't be read, 422 for values out of range.
    """
    body = await _read_body(request)
    found = _VERSION.fullmatch(str(body.get("version", "")))
    if found is None:
        raise refusals.invalid((_BAD_VERSION,))
    try:
        typed, echoed = read_input(body.get("input"))
    except InvalidInput as error:
        raise refusals.invalid(error.fields) from None
    version = found.group("version")
    return Order(
        model=found.group("model") or "",
        version=version,
        typed=typed,
        echoed=echoed,
        input_sha=input_sha(version, echoed),
        cancel_after=_cancel_after(request.headers.get("cancel-after")),
    )


def wait_seconds(request: Request) -> float:
    """How long ``Prefer: wait`` holds the reply, 0 to 60 s."""
    found = _WAIT.fullmatch(request.headers.get("prefer", ""))
    if found is None:
        return 0.0
    return min(float(found.group(1) or MAX_WAIT_SECONDS), MAX_WAIT_SECONDS)


_BAD_VERSION = InvalidField(
    "version", "invalid_version", "Expected a version id of 64 hex digits, or owner/name:id"
)


async def _read_body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise refusals.malformed("The request body is not valid JSON.") from None
    if not isinstance(body, dict):
        raise refusals.malformed("The request body is not a JSON object.")
    return body


def _cancel_after(text: str | None) -> float | None:
    if text is None:
        return None
    found = re.fullmatch(DURATION, text, re.ASCII)
    if found is None:
        raise refusals.malformed("Cancel-After is no duration such as 30s, 5m or 1h30m.")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(hours * 3600 + minutes * 60 + seconds)
