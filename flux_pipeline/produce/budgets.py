"""Budgets as the ledger counts them: per run, per prompt set and month, per day over all sets.

A request counts for the month and the day (UTC) in which it is about to be sent, so that a run over
midnight counts for both days.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache

from flux_pipeline.errors import ConfigError, Problem
from flux_pipeline.ledger.base import Budget, OverBudget
from flux_pipeline.models import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """USD that may be spent, by estimate; None is no limit. Days and months are UTC."""

    usd_per_run: float | None = None
    usd_per_month: float | None = None
    usd_per_day: float | None = None

    def budgets(self, *, run_id: str, prompt_set: str, now: datetime) -> tuple[Budget, ...]:
        """The scopes that one request of this run counts against, limited or not.

        A run makes several sets where one follows another: what it spends is counted for all of
        them, and a set's own limit of a run for that set alone.
        """
        return _budgets(self, run_id, prompt_set, now.date())


@lru_cache(maxsize=64)  # the same for all requests of a set on one day
def _budgets(limits: Limits, run_id: str, prompt_set: str, day: date) -> tuple[Budget, ...]:
    run = f"run:{run_id}"
    own = () if limits.usd_per_run is None else (micros(limits.usd_per_run),)
    return (
        Budget(run, None),
        *(Budget(f"{run}:{prompt_set}", limit) for limit in own),
        Budget(f"month:{prompt_set}:{day:%Y-%m}", micros(limits.usd_per_month)),
        Budget(f"day:{day:%Y-%m-%d}", micros(limits.usd_per_day)),
    )


def check_prices(limits: Limits, models: Iterable[Model]) -> None:
    """Refuse to begin where the day's budget can't be kept, because a price is unknown.

    A prompt set's own budget is refused when the set is loaded.

    Raises:
        ConfigError: With every model whose price is unknown.
    """
    if limits.usd_per_day is None:
        return
    unpriced = dict.fromkeys(model.name for model in models if not model.price.is_known)
    if unpriced:
        message = (
            f"can't be kept: the price of {', '.join(unpriced)} is unknown. Write price: in the"
            " model's file under models/ (flux-pipeline model add makes one), or leave it empty"
        )
        raise ConfigError([Problem("environment", 0, NAMES["day"], message)])


NAMES = {
    "run": "usd_per_run",
    "month": "usd_per_month",
    "day": "FLUX_BUDGET_USD_PER_DAY",
}
"""What a budget is called where it is set, by the first word of its scope."""

_REMEDIES = {
    "run": "raise it (flux-pipeline plan says to what), or run again",
    "month": "raise it (flux-pipeline plan says to what), or wait for the next month (UTC)",
    "day": "raise it (flux-pipeline plan says to what), or wait for the next day (UTC)",
}


def over_budget(claim: OverBudget, cost_usd: float) -> str:
    """The reason of a request that was not sent for lack of budget.

    The words are the same for all requests of a run with the same cost, so that the run can say it
    once instead of once for each request.
    """
    kind = claim.scope.partition(":")[0]
    return (
        f"not sent: budget {NAMES.get(kind, claim.scope)} {usd(claim.limit_micros)} has"
        f" {usd(claim.left_micros)} USD left, and the next request costs {usd(micros(cost_usd))};"
        f" {_REMEDIES.get(kind, 'raise it')}"
    )


def usd(amount_micros: int | None) -> str:
    """Format millionths of a USD as USD, with as many digits as needed."""
    text = f"{(amount_micros or 0) / 1_000_000:.6f}".rstrip("0")
    return text.removesuffix(".")


def micros(usd: float | None) -> int | None:
    """Convert USD to millionths, which add up exactly."""
    return None if usd is None else round(usd * 1_000_000)
