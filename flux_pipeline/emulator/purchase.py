"""The one place where money is spent: a valid create is accepted and charged, or it isn't.

Both happen in one transaction with the fault that was drawn for it, so that the ledger and the
predictions can't disagree, whoever is killed when.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from flux_pipeline.emulator import chance, records, refusals
from flux_pipeline.emulator.emulator import Emulator
from flux_pipeline.emulator.faults import draw_fault
from flux_pipeline.emulator.faulty import outcomes
from flux_pipeline.emulator.gate import credit_left
from flux_pipeline.emulator.inputs import ModelInput
from flux_pipeline.emulator.lifecycle import Plan
from flux_pipeline.emulator.records import Record

_ROUNDING = 1e-9
"""USD that sums of prices may be off by."""

_ACCEPTED_ALL_THE_SAME = frozenset({"other_version", "data_uri"})


@dataclass(frozen=True, slots=True)
class Order:
    """A valid create, not yet accepted."""

    model: str
    """``owner/name``, or empty where only the version was named."""
    version: str
    """64 hex digits."""
    typed: ModelInput
    echoed: Mapping[str, Any] = field(hash=False)
    """The input without what the model doesn't know."""
    input_sha: str
    cancel_after: float | None = None
    """s from acceptance, or None."""


@dataclass(frozen=True, slots=True)
class Purchase:
    """What came of an order: a record if it was accepted, a fault if the reply goes wrong."""

    record: Record | None
    fault: str | None


def accept(emulator: Emulator, order: Order) -> Purchase:
    """Accept an order and charge for it, unless the fault drawn for it comes first.

    Raises:
        Refusal: 402, where the credit doesn't cover it.
    """
    concerned = emulator.faults.concerns(order.typed.prompt)
    cost = emulator.options.usd_per_image * order.typed.num_outputs
    with emulator.state.transaction() as connection:
        credit = credit_left(connection, emulator.options)
        if credit is not None and cost > credit + _ROUNDING:
            raise refusals.out_of_credit()
        fault = None
        if concerned:
            fault = draw_fault(connection, emulator.faults, "create", order.input_sha)
        if fault is not None and not _is_accepted(fault):
            return Purchase(None, fault)
        record = _record(emulator, connection, order, cost, fault)
        records.insert(connection, record)
    return Purchase(record, fault)


def _record(
    emulator: Emulator,
    connection: sqlite3.Connection,
    order: Order,
    cost: float,
    fault: str | None,
) -> Record:
    now, faults = emulator.clock(), emulator.faults
    ordinal = records.count_same(connection, order.input_sha)
    plan = outcomes.plan_for(emulator.options, order.typed, order.input_sha, ordinal, now)
    if faults.concerns(order.typed.prompt):
        outcome = draw_fault(connection, faults, "outcome", order.input_sha)
        if outcome is not None:
            images = order.typed.num_outputs
            plan = outcomes.spoil_plan(plan, outcome, faults, order.input_sha, images)
    return Record(
        id=records.new_id(),
        input_sha=order.input_sha,
        ordinal=ordinal,
        created_at=now,
        model=order.model,
        version=order.version,
        input=order.echoed,
        plan=_bent(plan, fault, now, order.version),
        cost_usd=cost,
        deadline_at=None if order.cancel_after is None else now + order.cancel_after,
    )


def _bent(plan: Plan, fault: str | None, now: float, version: str) -> Plan:
    """The plan of a create whose reply is unusual but true."""
    if fault == "other_version":
        return replace(plan, served_version=chance.digest("other than", version).hex())
    if fault == "data_uri":
        return replace(plan, starts_at=now, ends_at=now, late_seconds=0, null_reads=0)
    return plan


def _is_accepted(fault: str) -> bool:
    return fault.endswith("_after") or fault in _ACCEPTED_ALL_THE_SAME
