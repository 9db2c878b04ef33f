"""How far a budget reaches, by forecast and in the ledger: the same; and what a forecast counts."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.ledger.base import Budget, Claimed, Intent, OverBudget
from flux_pipeline.produce.budgets import Limits, over_budget, usd
from flux_pipeline.produce.plan import BudgetFit, forecast, open_fits
from flux_pipeline.prompts import PromptSet, build_prompt_set
from flux_pipeline.request import Request
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


def set_of(folder: Path, rows: int) -> PromptSet:
    """A set by shard whose table has prompts of two shapes, in two takes."""
    shapes = ("1:1", "16:9")
    lines = [f"{n},text {n},{shapes[n % 2]}\n" for n in range(rows)]
    (folder / "t.csv").write_text("id,text,shape\n" + "".join(lines))
    prompt = {"table": "t.csv", "key": "id", "prompt": "{text}", "aspect_ratio": "{shape}"}
    document = {
        "model": "lucataco/flux-schnell-lora",
        "prompts": {"p": {**prompt, "num_outputs": "2", "takes": 2}},
        "partitions": {"by": "shard", "count": 3},
    }
    return build_prompt_set("winter", document, folder=folder)


def claim(ledger: MemoryLedger, request: Request) -> None:
    ledger.claim(Intent(request.request_sha256, "winter", "run", 6_000, "{}"), holder="me")


def test_drafts_are_counted_as_their_requests_are(tmp_path: Path) -> None:
    prompt_set, ledger = set_of(tmp_path, 7), MemoryLedger(clock=lambda: 0.0)
    requests = list(prompt_set.requests())
    claim(ledger, requests[3])
    sent: tuple[list[Request], list[Request]] = ([], [])
    fits = [BudgetFit("usd_per_run", 20_000) for _ in sent]
    by_draft, by_request = (
        forecast(asked, ledger, fits=[fit], unpriced={"other/model"}, offered=["a/b"], on_sent=add)
        for asked, fit, add in zip(
            (prompt_set.drafts(), requests), fits, (each.append for each in sent), strict=True
        )
    )
    assert by_draft == by_request
    assert sent[0] == sent[1] == [each for each in requests if each is not requests[3]]
    assert fits[0] == fits[1]
    total = by_draft.total
    assert (total.requests, total.images, total.new, total.resumed) == (14, 28, 13, 1)
    assert total.in_images == {"new": 26, "resumed": 2}
    assert total.usd == pytest.approx(26 * 0.003)
    assert total.unoffered.total() == 13
    parts = by_draft.partitions
    assert sum(part.requests for part in parts.values()) == 14
    assert all(key.startswith("shard-") for key in parts)


def test_what_was_asked_for_before_is_unchanged_also_where_nobody_made_it(tmp_path: Path) -> None:
    prompt_set, ledger = set_of(tmp_path, 2), MemoryLedger(clock=lambda: 0.0)
    known = next(iter(prompt_set.requests()))
    found = forecast(prompt_set.drafts(), ledger, was_asked=lambda request: request == known)
    assert (found.total.unchanged, found.total.new) == (1, 3)


def test_in_an_empty_ledger_a_thousand_requests_are_looked_up_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt_set, ledger = set_of(tmp_path, 600), MemoryLedger(clock=lambda: 0.0)
    looked_up: list[str] = []
    find = ledger.find
    monkeypatch.setattr(ledger, "find", lambda shas: looked_up.extend(shas) or find(shas))
    assert forecast(prompt_set.drafts(), ledger).total.new == 1_200
    assert len(looked_up) == 1_000

    looked_up.clear()
    claim(ledger, list(prompt_set.requests())[1_100])
    total = forecast(prompt_set.drafts(), ledger).total
    assert (total.new, total.resumed) == (1_199, 1)
    assert len(looked_up) == 1_200
