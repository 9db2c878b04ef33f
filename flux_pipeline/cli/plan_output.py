"""What a plan prints: a table, one JSON object, or Markdown for a comment on a pull request."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from flux_pipeline.produce.plan import Changes, Fit, Forecast, SetForecast

MARK = "<!-- flux-pipeline plan -->"
"""The first line of the Markdown: by it a comment is found again, and updated."""
MOST_CHARACTERS = 60_000
"""A comment on GitHub may have 65,536."""
_MOST_NAMED = 20
_HEADINGS = ("requests", "images", "unchanged", "new", "resumed", "held", "USD", "time")


@dataclass(slots=True)
class SetPlan:
    """One prompt set's part of a plan."""

    name: str
    forecast: SetForecast
    fits: Sequence[Fit] = ()
    changes: Changes | None = None
    """None where nothing is compared."""
    is_new: bool = False
    is_gone: bool = False


@dataclass(slots=True)
class Plan:
    """What a run of several prompt sets would make, and what of it is due to a change."""

    rate: float
    """Creates a minute."""
    day: Sequence[Fit] = ()
    """The budget of the day over all sets, if there is one."""
    sets: list[SetPlan] = field(default_factory=list)
    total: Forecast = field(default_factory=Forecast)
    rev: str = ""
    """What it is compared with; empty for nothing."""
    commit: str = ""

    def add(self, each: SetPlan) -> None:
        """Take in one set."""
        self.sets.append(each)
        self.total.merge(each.forecast.total)

    @property
    def short(self) -> list[tuple[str, Fit]]:
        """The budgets in which not everything fits, each with whose it is."""
        found = [(each.name, fit) for each in self.sets for fit in each.fits]
        found += [("all prompt sets", fit) for fit in self.day]
        return [(name, fit) for name, fit in found if fit.fits < fit.new]


def as_json(plan: Plan) -> str:
    """One line: ``{sets: {name: {counts…, partitions: {…}}}, total: {counts…}}``, and the rest."""
    sets = {each.name: _set_json(each, plan.rate) for each in plan.sets}
    shown: dict[str, Any] = {"sets": sets, "total": _counts(plan.total, plan.rate)}
    shown["budgets"] = [_fit_json(fit) for fit in plan.day]
    if plan.rev:
        shown |= {"changed_since": plan.rev, "commit": plan.commit}
        shown |= {
            "added": [each.name for each in plan.sets if each.is_new],
            "edited": [each.name for each in plan.sets if _is_edited(each)],
            "removed": [each.name for each in plan.sets if each.is_gone],
        }
    return json.dumps(shown)


def print_table(plan: Plan) -> None:
    """The table, then what changed, then the budgets that are too small."""
    table = Table("prompt set", box=None, pad_edge=False)
    for heading in _HEADINGS:
        table.add_column(heading, justify="right")
    for name, forecast, style in _rows(plan):
        table.add_row(name, *_cells(forecast, plan.rate), style=style)
    Console().print(table)
    if plan.rev:
        click.echo(f"\nchanged since {plan.rev} ({plan.commit[:12]}):")
        changed = [each for each in plan.sets if each.changes]
        for each in changed:
            click.echo(f"{each.name}{_whole(each)}: {'; '.join(_listed(each.changes))}")
        if not changed:
            click.echo("no prompt")
    for name, fit in plan.short:
        click.echo(f"{name}: {fit}")


def as_markdown(plan: Plan) -> str:
    """A comment: what it costs in one sentence, the table, the prompts, the budgets.

    Names of sets and prompts are made of letters, digits, hyphens and underscores: nothing in it
    is read as Markdown that was not meant.
    """
    lines = [MARK, "### flux-pipeline plan", "", _sentence(plan), ""]
    lines += [f"- **{name}**: {fit}" for name, fit in plan.short]
    lines += ["", "| prompt set | " + " | ".join(_HEADINGS) + " |"]
    lines += ["|---" + "|---:" * len(_HEADINGS) + "|"]
    for name, forecast, _ in _rows(plan):
        lines.append(f"| {name} | " + " | ".join(_cells(forecast, plan.rate)) + " |")
    changed = [each for each in plan.sets if each.changes]
    if changed:
        lines += ["", "<details><summary>Prompts</summary>", ""]
        for each in changed:
            lines += [f"- **{each.name}**{_whole(each)}: {'; '.join(_listed(each.changes))}"]
        lines += ["", "</details>"]
    lines += ["", "Nothing was sent. Costs are estimates from the model's price table."]
    text = "\n".join(lines)
    if len(text) <= MOST_CHARACTERS:
        return text
    return f"{text[:MOST_CHARACTERS].rpartition(chr(10))[0]}\n\ncut here: too long for a comment"


def _sentence(plan: Plan) -> str:
    new = f"**{plan.total.new} new requests, {plan.total.usd:.4f} USD**"
    if not plan.rev:
        return f"{new} would be sent."
    at = f"`{plan.commit[:12]}`"
    if not any(each.changes for each in plan.sets):
        return f"No prompt changed since {at}: {new}."
    return f"The change since {at} would send {new}."


def _set_json(each: SetPlan, rate: float) -> dict[str, Any]:
    shown: dict[str, Any] = {**_counts(each.forecast.total, rate)}
    if each.changes is not None:
        changes = each.changes
        shown |= {"added": changes.added, "edited": changes.edited, "removed": changes.removed}
    shown["budgets"] = [_fit_json(fit) for fit in each.fits]
    parts = each.forecast.partitions.items()
    return shown | {"partitions": {key: _counts(value, rate) for key, value in parts}}


def _counts(forecast: Forecast, rate: float) -> dict[str, int | float]:
    return {
        "requests": forecast.requests,
        "images": forecast.images,
        "unchanged": forecast.unchanged,
        "new": forecast.new,
        "resumed": forecast.resumed,
        "held": forecast.held,
        "refused": forecast.refused,
        "usd": round(forecast.usd, 6),
        "seconds": round(forecast.seconds(rate), 3),
    }


def _fit_json(fit: Fit) -> dict[str, Any]:
    return {
        "budget": fit.name,
        "limit_usd": fit.limit_micros / 1e6,
        "used_usd": fit.used_micros / 1e6,
        "new": fit.new,
        "fits": fit.fits,
        "needed_usd": fit.needed_micros / 1e6,
    }


def _rows(plan: Plan) -> Iterator[tuple[str, Forecast, str]]:
    for each in sorted(plan.sets, key=lambda each: each.name):
        yield each.name, each.forecast.total, ""
    if len(plan.sets) > 1:
        yield "total", plan.total, "bold"


def _cells(forecast: Forecast, rate: float) -> list[str]:
    counts = (
        *(forecast.requests, forecast.images, forecast.unchanged),
        *(forecast.new, forecast.resumed, forecast.held),
    )
    minutes, seconds = divmod(round(forecast.seconds(rate)), 60)
    return [*map(str, counts), f"{forecast.usd:.4f}", f"{minutes}:{seconds:02d}"]


def _is_edited(each: SetPlan) -> bool:
    return bool(each.changes) and not each.is_new and not each.is_gone


def _whole(each: SetPlan) -> str:
    return " (new set)" if each.is_new else " (set removed)" if each.is_gone else ""


def _listed(changes: Changes | None) -> Iterator[str]:
    if changes is None:
        return
    lists = {"added": changes.added, "edited": changes.edited, "removed": changes.removed}
    for what, names in lists.items():
        if names:
            more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
            yield f"{len(names)} {what}: {', '.join(names[:_MOST_NAMED])}{more}"
