"""Budgets as the ledger counts them: per run, per prompt set and month, per day over all sets."""

from dataclasses import dataclass
from datetime import datetime

from flux_pipeline.ledger.base import Budget


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """USD that may be spent, by estimate; None is no limit. Days and months are UTC."""

    usd_per_run: float | None = None
    usd_per_month: float | None = None
    usd_per_day: float | None = None

    def budgets(self, *, run_id: str, prompt_set: str, now: datetime) -> tuple[Budget, ...]:
        """The scopes that one request of this run counts against, limited or not."""
        return (
            Budget(f"run:{run_id}", micros(self.usd_per_run)),
            Budget(f"month:{prompt_set}:{now:%Y-%m}", micros(self.usd_per_month)),
            Budget(f"day:{now:%Y-%m-%d}", micros(self.usd_per_day)),
        )


def micros(usd: float | None) -> int | None:
    """Millionths of a USD, exact to add up."""
    return None if usd is None else round(usd * 1_000_000)
