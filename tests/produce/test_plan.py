"""How far a budget reaches, by forecast and in the ledger: the same."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.ledger.base import Budget, Claimed, Intent, OverBudget
from flux_pipeline.produce.budgets import Limits, over_budget, usd
from flux_pipeline.produce.plan import BudgetFit, open_fits
from tests.ledger.memory import MemoryLedger

costs = st.lists(st.integers(1, 20_000), max_size=30)
NOW = datetime(2026, 11, 30, 23, 59, tzinfo=UTC)


@given(costs, st.integers(0, 100_000), st.integers(0, 50_000))
def test_what_fits_is_what_the_ledger_would_let_through(
    each: list[int], limit: int, used: int
) -> None:
    ledger, budget = MemoryLedger(clock=lambda: 0.0), Budget("month:winter:2026-11", limit)
    if used:
        earlier = Intent("0" * 64, "winter", "earlier", used, "{}")
        ledger.claim(earlier, holder="a", budgets=[Budget(budget.scope, None)])
    limits = Limits(usd_per_month=limit / 1e6)
    (fit,) = open_fits(limits, ledger, prompt_set="winter", now=NOW)
    through = 0
    for number, cost in enumerate(each, 1):
        fit.add(cost)
        intent = Intent(f"{number:064x}", "winter", "run", cost, "{}")
        through += isinstance(ledger.claim(intent, holder="a", budgets=[budget]), Claimed)
    assert (fit.new, fit.fits) == (len(each), through)


@given(costs, st.integers(0, 100_000), st.integers(0, 50_000))
def test_all_fit_under_the_limit_that_is_proposed(each: list[int], limit: int, used: int) -> None:
    short = BudgetFit("usd_per_run", limit, used)
    for cost in each:
        short.add(cost)
    raised = BudgetFit("usd_per_run", max(limit, short.needed_micros), used)
    for cost in each:
        raised.add(cost)
    assert raised.fits == len(each)


def test_a_budget_is_said_with_what_fits() -> None:
    fit = BudgetFit("usd_per_run", 50_000)
    for _ in range(40):
        fit.add(4_000)
    assert str(fit) == "budget usd_per_run 0.05: 12 of 40 new requests fit; raise it to 0.16"


def test_budgets_are_those_of_the_month_and_day_in_utc() -> None:
    scopes = [b.scope for b in Limits().budgets(run_id="1", prompt_set="winter", now=NOW)]
    assert scopes == ["run:1", "month:winter:2026-11", "day:2026-11-30"]


def test_a_limit_of_a_run_is_that_of_the_set_alone() -> None:
    limits = Limits(usd_per_run=0.5)
    budgets = limits.budgets(run_id="1", prompt_set="winter", now=NOW)
    assert [each.limit_micros for each in budgets] == [None, 500_000, None, None]
    assert budgets[1].scope == "run:1:winter"


def test_amounts_have_the_digits_they_need() -> None:
    assert [usd(micros) for micros in (0, 1, 3_000, 5_000_000, None)] == [
        *("0", "0.000001", "0.003", "5", "0")
    ]


def test_each_budget_says_what_helps() -> None:
    for scope, words in {
        "run:1": ("usd_per_run", "run again"),
        "month:winter:2026-11": ("usd_per_month", "next month (UTC)"),
        "day:2026-11-30": ("FLUX_BUDGET_USD_PER_DAY", "next day (UTC)"),
    }.items():
        said = over_budget(OverBudget(scope, 10_000, 1_000), 0.003)
        assert all(word in said for word in words)
        assert "0.001 USD left, and the next request costs 0.003" in said
