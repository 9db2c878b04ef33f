"""Admits requests by key, rate and credit; reads creates, and accepts and charges for them.

``admit`` counts every request with its key, whatever comes of it. ``accept`` draws the fault,
stores the prediction and charges for it in one transaction, so that usage and predictions agree
even where a process is killed.
"""

import json
import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from urllib.parse import urlsplit

from starlette.requests import Request

from flux_pipeline.emulator import chance, files, records, replies
from flux_pipeline.emulator.contracts import DEFAULT_MODEL, Contract
from flux_pipeline.emulator.emulator import Emulator
from flux_pipeline.emulator.faults import ERROR_MESSAGES, draw_fault, find_lasting, spoil_plan
from flux_pipeline.emulator.inputs import (
    InvalidField,
    InvalidInput,
    ModelInput,
    input_sha,
    read_input,
)
from flux_pipeline.emulator.jobs import Job, cost_of, plan_job, read_values
from flux_pipeline.emulator.lifecycle import Plan, Timing, plan_for
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.records import Record, count
from flux_pipeline.emulator.replies import Refusal
from flux_pipeline.emulator.usage import CREATE_ROUTES, fingerprint_key, note_request

CallKind = Literal["creates", "calls", "open"]
"""The rate limit that a call counts against; ``open`` calls have none and need no key."""

MAX_WAIT_SECONDS = 60.0
DURATION = r"(?=[0-9])(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,9})s?)?"
"""A time such as ``90``, ``90s``, ``1m`` or ``1h30m``; its groups are hours, minutes, seconds."""
_BEARER = re.compile(r"(?:Bearer|Token)\s+(.*\S)\s*", re.IGNORECASE)
_IDS = re.compile(r"(?<=/predictions/)[^/]+|(?<=/output/).*")
_OTHER_IDS = re.compile(r"(?<=/models/)[^/]+/[^/]+|(?<=/versions/)[^/]+|(?<=/v1/files/)[^/]+")
_MAX_PATH = 120
"""Characters kept of an unknown path."""
MODEL = r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+"
_VERSION = re.compile(rf"(?:(?P<model>{MODEL}):)?(?P<version>[0-9a-f]{{64}})|(?P<official>{MODEL})")
_BAD_VERSION = InvalidField(
    "version",
    "invalid_version",
    "Expected a version id of 64 hex digits, owner/name:id, or owner/name of an official model",
)
_NOT_SERVED = InvalidField(
    "version", "invalid_version", "The version does not exist, or you may not run it"
)
HIDDEN_VERSION = "hidden"
"""What predictions of official models say in place of a version."""
_WAIT = re.compile(r"(?:.*,)?\s*wait(?:\s*=\s*([0-9]+))?\s*(?:,.*)?")
_ROUNDING = 1e-9
"""USD that sums of prices may be off by."""
_ACCEPTED = frozenset({"other_version", "data_uri"})
"""Create faults that are accepted, besides those that end in ``_after``."""


@dataclass(frozen=True, slots=True)
class Order:
    """A valid create, not yet accepted."""

    model: str
    """``owner/name``, or empty where only the version was named."""
    version: str
    """64 hex digits, or ``hidden`` of an official model."""
    typed: ModelInput | Job
    echoed: Mapping[str, Any] = field(hash=False)
    """The input without unknown values."""
    input_sha: str
    cancel_after: float | None = None
    """s from acceptance, or None."""
    contract: Contract | None = None
    """None for lucataco/flux-schnell-lora, and for versions that are not known."""
    values: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Effective inputs, where there is a contract."""


@dataclass(frozen=True, slots=True)
class Purchase:
    """The result of an order: a record if it was accepted, a fault if the reply is faulty."""

    record: Record | None
    fault: str | None


def admit(emulator: Emulator, request: Request, kind: CallKind) -> None:
    """Count a request, and check its key, the credit and the rate limit.

    Raises:
        Refusal: 401, 402 or 429.
    """
    key = key_of(request)
    host = request.headers.get("host", "")
    with emulator.state.transaction() as connection:
        note_request(connection, host, route_of(request), key)
        if kind == "open":
            return
        refusal = _check(emulator, connection, key, kind)
    if refusal is not None:
        raise refusal


def key_of(request: Request) -> str:
    """The API key that came with a request, or an empty text."""
    found = _BEARER.fullmatch(request.headers.get("authorization", ""))
    return found.group(1) if found else ""


def route_of(request: Request) -> str:
    """Method and path with ids cut out, such as ``GET /v1/predictions/{id}``."""
    path: str = request.scope["path"]
    if "/models/" in path or "/files/" in path:
        path = _OTHER_IDS.sub("{id}", path)
    return f"{request.method} {_IDS.sub('{id}', path)[:_MAX_PATH]}"


def _check(
    emulator: Emulator, connection: sqlite3.Connection, key: str, kind: Literal["creates", "calls"]
) -> Refusal | None:
    options, faults = emulator.options, emulator.faults
    if not key or (options.accepted_keys and key not in options.accepted_keys):
        return replies.unauthenticated()
    if faults.unauthorized_after is not None or faults.payment_required_after is not None:
        received = sum(count(connection, "route", route) for route in CREATE_ROUTES)
        if _beyond(faults.unauthorized_after, received):
            return replies.unauthenticated()
        if kind == "creates" and _beyond(faults.payment_required_after, received):
            return replies.out_of_credit()
    per_minute = options.creates_per_minute if kind == "creates" else options.calls_per_minute
    if per_minute is None:
        return None
    limit = bucket(per_minute, options.burst_seconds)
    credit = credit_left(connection, options)
    if kind == "creates" and credit is not None and credit < options.low_credit_usd:
        limit = LOW_CREDIT
    now = emulator.clock()
    wait = limit.take(connection, f"{kind} {fingerprint_key(key)}", now)
    return replies.throttled(wait, options.rate_hint, now) if wait else None


def _beyond(limit: int | None, received: int) -> bool:
    return limit is not None and received > limit


def credit_left(connection: sqlite3.Connection, options: EmulatorOptions) -> float | None:
    """Credit in USD, or None where it has no end."""
    if options.credit_usd is None:
        return None
    return options.credit_usd - records.charged(connection)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A token bucket in the database, so that all processes of one state share one limit."""

    per_minute: float
    capacity: float

    def take(self, connection: sqlite3.Connection, name: str, now: float) -> float:
        """Take one token; returns 0, or the seconds until there is one (then nothing is taken)."""
        row = connection.execute(
            "SELECT tokens, filled_at FROM buckets WHERE name = ?", (name,)
        ).fetchone()
        per_second = self.per_minute / 60
        tokens = self.capacity
        if row is not None:
            elapsed = max(0.0, now - row["filled_at"])
            tokens = min(self.capacity, row["tokens"] + elapsed * per_second)
        allowed = tokens >= 1
        connection.execute(
            "INSERT OR REPLACE INTO buckets VALUES (?, ?, ?)",
            (name, tokens - 1 if allowed else tokens, now),
        )
        return 0.0 if allowed else (1 - tokens) / per_second


LOW_CREDIT = Bucket(per_minute=6, capacity=1)
"""The limit of an account that is nearly out of credit."""


def bucket(per_minute: float, burst_seconds: float) -> Bucket:
    """A bucket with room for the tokens of ``burst_seconds``, at least one."""
    return Bucket(per_minute, max(1.0, per_minute * burst_seconds / 60))


async def read_order(emulator: Emulator, request: Request) -> Order:
    """Read a create's body and headers; the path may name an official model.

    Raises:
        Refusal: 400 for what can't be read, 404 for an unknown model, 422 for values out of range.
    """
    options = emulator.options
    path = request.path_params
    by_model = f"{path['owner']}/{path['name']}" if path else ""
    if options.create_routes in (("predictions",) if by_model else ("models",)):
        raise replies.not_found()
    body = await _read_body(request, options.max_body_bytes)
    model, version, contract = (
        _official(emulator, by_model) if by_model else _named(emulator, body.get("version"))
    )
    cancel_after = _cancel_after(request.headers.get("cancel-after"))
    refuse = options.unknown_inputs == "refused"
    try:
        if contract is None:
            typed, echoed = read_input(body.get("input"), refuse_unknown=refuse)
            name = input_sha(version, echoed)
            return Order(model, version, typed, echoed, name, cancel_after)
        values, echoed = read_values(contract, body.get("input"), refuse_unknown=refuse)
    except InvalidInput as error:
        raise replies.invalid(error.fields) from None
    job = plan_job(contract, values, echoed, replies.origin_of(request))
    named = _named_pictures(emulator, echoed, job.pictures) if job.pictures else echoed
    name = input_sha(model if contract.is_official else version, named)
    return Order(model, version, job, echoed, name, cancel_after, contract, values)


def _official(emulator: Emulator, model: str) -> tuple[str, str, Contract]:
    """Name, version and contract of an official model; others are not at that address."""
    contract = next((each for each in emulator.contracts(model) if each.is_official), None)
    allowed = emulator.options.allowed_versions
    if contract is None or (allowed and model not in allowed):
        raise replies.not_found()
    return model, HIDDEN_VERSION, contract


def _named(emulator: Emulator, named: object) -> tuple[str, str, Contract | None]:
    """Name, version and contract of what ``version`` names; no contract where it isn't known."""
    options = emulator.options
    found = _VERSION.fullmatch(str(named))
    if found is None:
        raise replies.invalid((_BAD_VERSION,))
    model, version, official = found.group("model", "version", "official")
    if options.allowed_versions and not options.allowed_versions & {version, official}:
        raise replies.invalid((_NOT_SERVED,))
    if official:
        contract = next((each for each in emulator.contracts(official) if each.is_official), None)
        if contract is None or options.create_routes == "apart":
            raise replies.invalid((_NOT_SERVED,))
        return official, HIDDEN_VERSION, contract
    contract = emulator.contract_of_version(version)
    if contract is not None and model in (None, contract.model):
        return contract.model, version, contract
    is_known = contract is not None or (
        model and model != DEFAULT_MODEL and emulator.contracts(model)
    )
    if is_known:
        raise replies.invalid((_NOT_SERVED,))
    return model or "", version, None


def _named_pictures(
    emulator: Emulator, echoed: Mapping[str, Any], pictures: Sequence[tuple[str, int]]
) -> dict[str, Any]:
    """The input with its pictures by content where that is known: uploaded twice, it is the same.

    A link counts without its query, which holds a signature.
    """

    def named(value: Any) -> Any:
        if isinstance(value, list):
            return [named(each) for each in value]
        if not isinstance(value, str):
            return value
        try:
            if files.is_data_uri(value):
                return f"sha256:{files.sha256_of(files.read_data_uri(value))}"
            with emulator.state.reading() as connection:
                file = files.find_by_url(connection, value)
            return f"sha256:{file.sha256}" if file else urlsplit(value)._replace(query="").geturl()
        except ValueError:
            return value  # its prediction will fail

    taken = {name for name, _ in pictures}
    return {name: named(value) if name in taken else value for name, value in echoed.items()}


def wait_seconds(request: Request) -> float:
    """How long ``Prefer: wait`` holds the reply, 0 to 60 s."""
    found = _WAIT.fullmatch(request.headers.get("prefer", ""))
    if found is None:
        return 0.0
    return min(float(found.group(1) or MAX_WAIT_SECONDS), MAX_WAIT_SECONDS)


async def _read_body(request: Request, most: int | None) -> dict[str, Any]:
    sent = await request.body()
    if most is not None and len(sent) > most:
        raise replies.malformed("The request body is not valid JSON: EOF")
    try:
        body = json.loads(sent)
    except (ValueError, RecursionError):
        raise replies.malformed("The request body is not valid JSON.") from None
    if not isinstance(body, dict):
        raise replies.malformed("The request body is not a JSON object.")
    return body


def _cancel_after(text: str | None) -> float | None:
    if text is None:
        return None
    found = re.fullmatch(DURATION, text, re.ASCII)
    if found is None:
        raise replies.malformed("Cancel-After is no duration such as 30s, 5m or 1h30m.")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(hours * 3600 + minutes * 60 + seconds)


def accept(emulator: Emulator, order: Order) -> Purchase:
    """Accept an order and charge for it, unless the fault drawn for it comes first.

    Raises:
        Refusal: 402, where the credit doesn't cover it, or the code of a lasting fault.
    """
    lasting = emulator.lasting_fault("create", order.typed.prompt)
    if lasting is not None:
        raise replies.rejected(int(lasting.removeprefix("creates_")))
    concerned = emulator.faults.concerns(order.typed.prompt)
    cost = _cost(emulator, order)
    with emulator.state.transaction() as connection:
        credit = credit_left(connection, emulator.options)
        if credit is not None and cost > credit + _ROUNDING:
            raise replies.out_of_credit()
        fault = None
        if concerned:
            fault = draw_fault(connection, emulator.faults, "create", order.input_sha)
        if fault is not None and not _is_accepted(fault):
            return Purchase(None, fault)
        record = _record(emulator, connection, order, cost, fault)
        records.insert(connection, record)
    return Purchase(record, fault)


def _cost(emulator: Emulator, order: Order) -> float:
    """USD; what is paid by the second is paid for the planned time."""
    otherwise = emulator.options.usd_per_image
    if order.contract is None or isinstance(order.typed, ModelInput):
        return otherwise * order.typed.num_outputs
    options = emulator.options.of_model(order.model, order.version)
    timing = Timing.drawn(options, 0, order.input_sha, 0)
    seconds = timing.ends_at - timing.starts_at
    return cost_of(order.contract, order.values, order.typed, seconds=seconds, otherwise=otherwise)


def _record(
    emulator: Emulator,
    connection: sqlite3.Connection,
    order: Order,
    cost: float,
    fault: str | None,
) -> Record:
    now, faults = emulator.clock(), emulator.faults
    ordinal = records.count_same(connection, order.input_sha)
    options = emulator.options.of_model(order.model, order.version)
    plan = plan_for(options, order.typed, order.input_sha, ordinal, now)
    if faults.concerns(order.typed.prompt):
        outcome = draw_fault(connection, faults, "outcome", order.input_sha)
        if outcome is not None:
            images = order.typed.num_outputs
            plan = spoil_plan(plan, outcome, faults, order.input_sha, images)
        if find_lasting(connection, faults, "outcome", now=now, since=None):
            plan = replace(plan, end="failed", error=ERROR_MESSAGES["failed_weights"])
    return Record(
        id=records.new_id(),
        input_sha=order.input_sha,
        ordinal=ordinal,
        created_at=now,
        model=order.model,
        version=order.version,
        input=order.echoed,
        plan=_apply_create_fault(plan, fault, now, order.version),
        cost_usd=cost,
        deadline_at=None if order.cancel_after is None else now + order.cancel_after,
        job=order.typed if isinstance(order.typed, Job) else None,
    )


def _apply_create_fault(plan: Plan, fault: str | None, now: float, version: str) -> Plan:
    """Change the plan for a create fault whose reply is unusual but true."""
    if fault == "other_version":
        return replace(plan, served_version=chance.digest("other than", version).hex())
    if fault == "data_uri":
        return replace(plan, starts_at=now, ends_at=now, late_seconds=0, null_reads=0)
    return plan


def _is_accepted(fault: str) -> bool:
    return fault.endswith("_after") or fault in _ACCEPTED
