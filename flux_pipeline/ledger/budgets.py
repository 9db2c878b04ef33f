"""Budgets: reserved, given back and read within the caller's transaction."""

import json
from collections.abc import Iterable, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from flux_pipeline.ledger.base import Budget, OverBudget
from flux_pipeline.ledger.rows import storable
from flux_pipeline.ledger.schema import BUDGETS

_c = BUDGETS.c
_AT = _c.scope == sa.bindparam("at")
_COST = sa.bindparam("cost", type_=sa.BigInteger)
_USED = sa.select(_c.used_micros).where(_AT)
_ADD = BUDGETS.update().where(_AT).values(used_micros=_c.used_micros + _COST)
_RESERVE = _ADD.where(_c.used_micros + _COST <= sa.bindparam("most", type_=sa.BigInteger))
_FIRST = BUDGETS.insert()


def spent(connection: Connection, scope: str) -> int:
    """Return what counts under a scope, in millionths of a USD."""
    used = connection.scalar(_USED, {"at": storable(scope)})
    return 0 if used is None else int(used)


def reserve(connection: Connection, budgets: Sequence[Budget], cost: int) -> OverBudget | None:
    """Add ``cost`` to every budget, or to none and return the one that would be exceeded.

    The condition stands in the UPDATE itself: no reader's old sum can overspend.
    """
    for done, budget in enumerate(budgets):
        over = _reserve_one(connection, budget, cost)
        if over is not None:
            charge(connection, (each.scope for each in budgets[:done]), -cost)
            return over
    return None


def charge(connection: Connection, scopes: Iterable[str], cost: int) -> None:
    """Add ``cost`` to the scopes whatever their limits: money that is gone, or (below 0) free."""
    for scope in scopes:
        at = storable(scope)
        if not connection.execute(_ADD, {"at": at, "cost": cost}).rowcount:
            connection.execute(_FIRST, {"scope": at, "used_micros": cost})


def dump_scopes(budgets: Sequence[Budget]) -> str:
    """Return the scopes as they are kept with an attempt."""
    return json.dumps([budget.scope for budget in budgets])


def load_scopes(text: str) -> list[str]:
    """Return the scopes that ``dump_scopes`` wrote."""
    return [str(scope) for scope in json.loads(text)]


def _reserve_one(connection: Connection, budget: Budget, cost: int) -> OverBudget | None:
    limit = budget.limit_micros
    if limit is None:
        charge(connection, [budget.scope], cost)
        return None
    at = storable(budget.scope)
    if connection.execute(_RESERVE, {"at": at, "cost": cost, "most": limit}).rowcount:
        return None
    used = connection.scalar(_USED, {"at": at})
    if used is None and cost <= limit:
        connection.execute(_FIRST, {"scope": at, "used_micros": cost})
        return None
    return OverBudget(budget.scope, limit, max(0, limit - int(used or 0)))
