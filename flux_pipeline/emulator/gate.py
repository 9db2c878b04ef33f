"""The door of the API: who asks, how often, and with how much credit left.

Every request is counted here, whatever comes of it, together with the key it carries.
"""

import re
import sqlite3
from typing import Literal

from starlette.requests import Request

from flux_pipeline.emulator import limits, records, refusals
from flux_pipeline.emulator.emulator import Emulator
from flux_pipeline.emulator.ledger import CREATE_ROUTES, fingerprint_key, note_request
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.refusals import Refusal
from flux_pipeline.emulator.state import count

Kind = Literal["creates", "calls", "open"]
"""Which bucket a call takes from; ``open`` calls need no key."""

_IDS = re.compile(r"(?<=/predictions/)[^/]+|(?<=/output/).*")
_LONGEST = 120
"""Characters kept of an unknown path."""
_BEARER = re.compile(r"(?:Bearer|Token)\s+(.*\S)\s*", re.IGNORECASE)


def admit(emulator: Emulator, request: Request, kind: Kind) -> None:
    """Let a request in, or don't.

    Raises:
        Refusal: 401, 402 or 429.
    """
    key = key_of(request)
    host = request.headers.get("host", "")
    with emulator.state.transaction() as connection:
        note_request(connection, host, route_of(request), key)
        if kind == "open":
            return
        refusal = _refusal(emulator, connection, key, kind)
    if refusal is not None:
        raise refusal


def key_of(request: Request) -> str:
    """The API key that came with a request, or an empty text."""
    found = _BEARER.fullmatch(request.headers.get("authorization", ""))
    return found.group(1) if found else ""


def route_of(request: Request) -> str:
    """Method and path with ids cut out, such as ``GET /v1/predictions/{id}``."""
    return f"{request.method} {_IDS.sub('{id}', request.scope['path'])[:_LONGEST]}"


def credit_left(connection: sqlite3.Connection, options: EmulatorOptions) -> float | None:
    """Credit in USD, or None where it has no end."""
    if options.credit_usd is None:
        return None
    return options.credit_usd - records.charged(connection)


def _refusal(
    emulator: Emulator, connection: sqlite3.Connection, key: str, kind: Literal["creates", "calls"]
) -> Refusal | None:
    options, faults = emulator.options, emulator.faults
    if not key or (options.accepted_keys and key not in options.accepted_keys):
        return refusals.unauthenticated()
    if faults.unauthorized_after is not None or faults.payment_required_after is not None:
        received = sum(count(connection, "route", route) for route in CREATE_ROUTES)
        if _beyond(faults.unauthorized_after, received):
            return refusals.unauthenticated()
        if kind == "creates" and _beyond(faults.payment_required_after, received):
            return refusals.out_of_credit()
    per_minute = options.creates_per_minute if kind == "creates" else options.calls_per_minute
    if per_minute is None:
        return None
    limit = limits.bucket(per_minute, options.burst_seconds)
    credit = credit_left(connection, options)
    if kind == "creates" and credit is not None and credit < options.low_credit_usd:
        limit = limits.LOW_CREDIT
    now = emulator.clock()
    wait = limit.take(connection, f"{kind} {fingerprint_key(key)}", now)
    return refusals.throttled(wait, options.rate_hint, now) if wait else None


def _beyond(limit: int | None, received: int) -> bool:
    return limit is not None and received > limit
