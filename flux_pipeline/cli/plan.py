"""`flux-pipeline plan`: forecasts what a run would make and cost; nothing is sent."""

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click
from rich.table import Table

from flux_pipeline.cli import tables
from flux_pipeline.cli.component_project import find_component_project
from flux_pipeline.cli.picks import ChoicePlan, plan_choice
from flux_pipeline.cli.prompt_changes import (
    PromptChange,
    changed_prompts,
    print_changes,
    removed_prompts,
    unmade_prompts,
)
from flux_pipeline.cli.workspace import (
    PartitionChoice,
    choose_partitions,
    choose_sets,
    configs_option,
    partition_options,
    read_settings,
    say_warning,
    say_warnings,
    sets_argument,
)
from flux_pipeline.garbage_collector import fewer_collections
from flux_pipeline.ledger.base import Ledger
from flux_pipeline.produce.budgets import Limits, check_prices
from flux_pipeline.produce.plan import (
    BudgetFit,
    Changes,
    Forecast,
    SetForecast,
    forecast,
    open_fits,
)
from flux_pipeline.produce.source_pictures import LedgerPictures
from flux_pipeline.prompts import ByDay, PromptSet, in_order
from flux_pipeline.request import Request
from flux_pipeline.settings import Settings, is_emulated
from flux_pipeline.text import count_noun, first_of, show_usd, usd_heading

if TYPE_CHECKING:  # it needs numpy, which only a revision is worth
    from flux_pipeline.produce.baseline import Baseline

MARK = "<!-- flux-pipeline plan -->"
"""The first line of the Markdown, by which the workflow finds its comment and updates it."""
MOST_CHARACTERS = 60_000
"""A comment on GitHub may have 65,536."""
_MOST_NAMED = 20
"""Prompts that are named in one list."""
_KINDS = ("unchanged", "new", "retry", "resumed", "held", "refused")
"""Kinds of requests, counted in images as `run` does."""
_SELDOM = ("pruned", "returned")
"""Kinds that have a column only where there are any."""


@click.command()
@sets_argument
@configs_option
@partition_options
@click.option(
    "--changed-since", metavar="REV", help="What the change since this git revision costs."
)
@click.option(
    "--show", is_flag=True, help="Name each new, edited and removed prompt, with all its inputs."
)
@click.option("--json", "json_wanted", is_flag=True, help="Print one JSON object, and no table.")
@click.option("--markdown", is_flag=True, help="Print Markdown, for a comment on a pull request.")
def plan(
    sets: tuple[str, ...],
    configs: Path | None,
    partition: tuple[str, ...],
    first_day: str | None,
    last_day: str | None,
    changed_since: str | None,
    show: bool,
    json_wanted: bool,
    markdown: bool,
) -> None:
    """Say what would be made, what exists already, and what it would cost.

    Costs are estimates from the models' prices; times assume the configured rate. With
    --changed-since, new is only what REV's prompt sets did not ask for.
    """
    from flux_pipeline.audit.ownership import check_provider
    from flux_pipeline.ledger.open import open_ledger

    if json_wanted and markdown:
        raise click.UsageError("--json and --markdown exclude each other")
    settings = read_settings(configs)
    if changed_since is not None and find_component_project() is not None:
        raise click.UsageError("--changed-since compares prompt set files; components are none")
    choice = PartitionChoice(partition, first_day, last_day)
    chosen = choose_sets(settings, sets)
    day = Limits(usd_per_day=settings.budget_usd_per_day)
    with open_ledger(settings.ledger) as ledger:
        check_provider(ledger, emulated=is_emulated(settings.provider))
        check_prices(day, [model for prompt_set in chosen for model in prompt_set.models])
        fits_of_day = open_fits(day, ledger, prompt_set="", now=_now())
        made = Plan(
            rate=settings.rate,
            day=fits_of_day,
            offered=settings.models,
            emulated=is_emulated(settings.provider),
        )
        if changed_since is None:
            with fewer_collections():
                for prompt_set in in_order(chosen):
                    _forecast_set(prompt_set, choice, ledger, made, settings, show=show)
        else:
            whole = not sets
            with _compared(settings.configs, changed_since, choice, made) as (before, earlier):
                _forecast_changes(
                    chosen, choice, ledger, made, before, earlier, settings, show=show
                )
                if whole:
                    _add_removed_sets(chosen, earlier, made, show=show)
    if json_wanted:
        click.echo(as_json(made))
    elif markdown:
        click.echo(as_markdown(made))
    else:
        print_table(made)


@dataclass(slots=True)
class SetPlan:
    """One prompt set's part of a plan."""

    name: str
    forecast: SetForecast
    fits: Sequence[BudgetFit] = ()
    changes: Changes | None = None
    """None where nothing is compared."""
    is_new: bool = False
    is_gone: bool = False
    shown: Sequence[PromptChange] | None = None
    """Each prompt that is new, edited or removed; None where they are not asked for."""
    choice: ChoicePlan | None = None
    """Which pictures are chosen for publishing; None for a set that is gone."""


@dataclass(slots=True)
class Plan:
    """The forecast of several prompt sets, compared with a git revision if there is one."""

    rate: float
    """Creates a minute."""
    day: Sequence[BudgetFit] = ()
    """The day's budget over all sets, if there is one."""
    offered: Collection[str] = ()
    """The only models that the provider has; none: all."""
    emulated: bool = False
    """Whether what it costs is no money, because the emulator would make the images."""
    sets: list[SetPlan] = field(default_factory=list)
    total: Forecast = field(default_factory=Forecast)
    rev: str = ""
    """The git revision that it is compared with; empty for none."""
    commit: str = ""

    def add(self, each: SetPlan) -> None:
        """Add one set."""
        self.sets.append(each)
        self.total.merge(each.forecast.total)

    @property
    def short(self) -> list[tuple[str, BudgetFit]]:
        """The budgets that are too small, each with the name of its prompt set."""
        found = [(each.name, fit) for each in self.sets for fit in each.fits]
        found += [("all prompt sets", fit) for fit in self.day]
        return [(name, fit) for name, fit in found if fit.fits < fit.new]


def _forecast_set(
    prompt_set: PromptSet,
    choice: PartitionChoice,
    ledger: Ledger,
    made: Plan,
    settings: Settings,
    *,
    show: bool,
) -> None:
    """Add the forecast of one set; with ``show`` also each prompt that would be sent."""
    from flux_pipeline.store.open import open_store

    say_warnings(prompt_set)
    asked = choose_partitions(prompt_set, choice)
    pictures = LedgerPictures(ledger)
    drafts = prompt_set.drafts(asked, say_warning, pictures=pictures)
    fits = _fits(prompt_set, ledger)
    sent: list[Request] = []
    done = forecast(
        drafts,
        ledger,
        fits=[*fits, *made.day],
        unpriced=_unpriced(prompt_set),
        offered=made.offered,
        on_sent=sent.append if show else None,
    )
    shown = None
    if show:
        store = open_store(settings.store, settings.store_options)
        shown = list(unmade_prompts(store, prompt_set, asked, sent))
    chosen = plan_choice(prompt_set, asked, ledger, settings)
    made.add(SetPlan(prompt_set.name, done, fits, shown=shown, choice=chosen))


@contextmanager
def _compared(
    configs: Path, rev: str, choice: PartitionChoice, made: Plan
) -> "Iterator[tuple[Baseline, dict[str, PromptSet]]]":
    """The requests of a revision, and its prompt sets; their files exist until the block ends."""
    from flux_pipeline.produce.baseline import Baseline
    from flux_pipeline.prompts.git import open_revision

    with open_revision(configs, rev) as revision:
        made.rev, made.commit = revision.rev, revision.commit
        before, earlier = Baseline(), {each.name: each for each in revision.prompt_sets}
        for name, prompt_set in earlier.items():
            before.add(name, prompt_set.requests(_days(prompt_set, choice)))
        yield before, earlier


def _forecast_changes(
    chosen: Sequence[PromptSet],
    choice: PartitionChoice,
    ledger: Ledger,
    made: Plan,
    before: "Baseline",
    earlier: dict[str, PromptSet],
    settings: Settings,
    *,
    show: bool,
) -> None:
    for prompt_set in chosen:
        say_warnings(prompt_set)
        name, keys, changes = prompt_set.name, choose_partitions(prompt_set, choice), Changes()
        pictures = LedgerPictures(ledger)
        found = prompt_set.requests(keys, say_warning, pictures=pictures)
        requests = before.watch(name, found, changes)
        fits = _fits(prompt_set, ledger)
        done = forecast(
            requests,
            ledger,
            fits=[*fits, *made.day],
            was_asked=before.asked,
            unpriced=_unpriced(prompt_set),
            offered=made.offered,
        )
        if name in earlier:
            was = earlier[name]
            changes.removed.extend(before.gone(name, _names_in(was, choice)))
        shown: list[PromptChange] | None = None
        if show:
            shown = list(changed_prompts(prompt_set.requests(keys, pictures=pictures), changes))
            if changes.removed:
                days = _days(earlier[name], choice)
                shown += removed_prompts(earlier[name].requests(days), changes)
        picked = plan_choice(prompt_set, keys, ledger, settings)
        is_new = name not in earlier
        made.add(SetPlan(name, done, fits, changes, is_new=is_new, shown=shown, choice=picked))


def _add_removed_sets(
    chosen: Sequence[PromptSet], earlier: dict[str, PromptSet], made: Plan, *, show: bool
) -> None:
    for name in sorted(earlier.keys() - {prompt_set.name for prompt_set in chosen}):
        was = earlier[name]
        changes = Changes(removed=list(was.names_in(None)))
        shown = None
        if show:
            days = _days(was, PartitionChoice())
            shown = list(removed_prompts(was.requests(days), changes))
        made.add(SetPlan(name, SetForecast(), [], changes, is_gone=True, shown=shown))


def _days(prompt_set: PromptSet, choice: PartitionChoice) -> Sequence[str] | None:
    """The partitions of an earlier set to compare with: all, or by day the days forecast now.

    Of a set that was not made by day then, or not by then, there may be none of them.
    """
    cut = prompt_set.partitions
    if not isinstance(cut, ByDay):
        return None
    try:
        return choose_partitions(prompt_set, choice)
    except click.BadParameter:
        today = datetime.now(ZoneInfo(cut.timezone)).date()
        return [today.isoformat()] if today >= cut.start else []


def _names_in(was: PromptSet, choice: PartitionChoice) -> Iterator[str]:
    """The names of an earlier set's prompts in the partitions that are forecast."""
    if isinstance(was.partitions, ByDay) or not choice.keys:
        yield from was.names_in(None)
        return
    for key in dict.fromkeys(choice.keys):
        yield from was.names_in(key)


def _fits(prompt_set: PromptSet, ledger: Ledger) -> list[BudgetFit]:
    budget = prompt_set.budget
    limits = Limits(usd_per_run=budget.usd_per_run, usd_per_month=budget.usd_per_month)
    return open_fits(limits, ledger, prompt_set=prompt_set.name, now=_now())


def _unpriced(prompt_set: PromptSet) -> Collection[str]:
    return {model.name for model in prompt_set.models if not model.price.is_known}


def _now() -> datetime:
    return datetime.now(UTC)


def as_json(plan: Plan) -> str:
    """One line of JSON: ``{sets: {name: {counts…, partitions: {…}}}, total: {counts…}, …}``."""
    sets = {each.name: _set_json(each, plan.rate) for each in plan.sets}
    shown: dict[str, Any] = {"sets": sets, "total": _counts(plan.total, plan.rate)}
    shown["budgets"] = [_fit_json(fit) for fit in plan.day]
    shown["emulated"] = plan.emulated
    if plan.rev:
        shown |= {"changed_since": plan.rev, "commit": plan.commit}
        shown |= {
            "added": [each.name for each in plan.sets if each.is_new],
            "edited": [each.name for each in plan.sets if _is_edited(each)],
            "removed": [each.name for each in plan.sets if each.is_gone],
        }
    return json.dumps(shown)


def print_table(plan: Plan) -> None:
    """Print the table, then what changed, then the budgets that are too small."""
    table = Table(box=None, pad_edge=False)
    table.add_column("prompt set", overflow="fold")  # a name that is cut names nothing
    for heading in _headings(plan):
        table.add_column(heading, justify="right")
    for name, counted, style in _rows(plan):
        table.add_row(name, *_cells(counted, plan.rate, _shown_kinds(plan)), style=style)
    tables.print_table(table)
    click.echo(f"counted are images; {_to_send(plan)}")
    if plan.rev:
        click.echo(f"\nchanged since {plan.rev} ({plan.commit[:12]}):")
        changed = [each for each in plan.sets if each.changes]
        for each in changed:
            click.echo(
                f"{each.name}{_set_change(each)}: {'; '.join(_changed_prompts(each.changes))}"
            )
        if not changed:
            click.echo("no prompt")
    for each in plan.sets:
        if each.shown is not None:
            print_changes(f"{each.name}{_set_change(each)}", each.shown)
    for line in _warnings(plan):
        click.echo(line)


def as_markdown(plan: Plan) -> str:
    """A comment: the cost in one sentence, budgets, the table, and the changed prompts.

    Names of sets and prompts consist of letters, digits, hyphens and underscores, so that none has
    to be escaped.
    """
    lines = [MARK, "### flux-pipeline plan", "", _sentence(plan), ""]
    lines += [f"- {line}" for line in _warnings(plan, bold="**")]
    headings = _headings(plan)
    lines += ["", "| prompt set | " + " | ".join(headings) + " |"]
    lines += ["|---" + "|---:" * len(headings) + "|"]
    for name, counted, _ in _rows(plan):
        lines.append(
            f"| {name} | " + " | ".join(_cells(counted, plan.rate, _shown_kinds(plan))) + " |"
        )
    changed = [each for each in plan.sets if each.changes]
    if changed:
        lines += ["", "<details><summary>Prompts</summary>", ""]
        for each in changed:
            lines += [
                f"- **{each.name}**{_set_change(each)}: {'; '.join(_changed_prompts(each.changes))}"
            ]
        lines += ["", "</details>"]
    lines += ["", "Nothing was sent. Costs are estimates from the models' prices."]
    text = "\n".join(lines)
    if len(text) <= MOST_CHARACTERS:
        return text
    return f"{text[:MOST_CHARACTERS].rpartition(chr(10))[0]}\n\ncut here: too long for a comment"


def _warnings(plan: Plan, *, bold: str = "") -> Iterator[str]:
    """Budgets that are too small, picks, and requests without a price or that are not sent."""
    for name, fit in plan.short:
        yield f"{bold}{name}{bold}: {fit}"
    for each in plan.sets:
        for line in each.choice.lines() if each.choice else ():
            yield f"{bold}{each.name}{bold}: {line}"
    if number := plan.total.pruned:
        requests = count_noun(number, "request")
        yield f"{requests} {_were(number)} pruned: made again, and paid again"
    if number := plan.total.returned:
        requests = count_noun(number, "request")
        yield f"{requests} {_were(number)} pruned: brought back from the archive, for free"
    if number := plan.total.following:
        requests = count_noun(number, "request")
        verb = "follows" if number == 1 else "follow"
        yield f"{requests} {verb} from pictures that are not made yet: an estimate"
    for model, number in plan.total.unpriced.items():
        yield _unknown_price(model, number)
    for why, number in plan.total.unoffered.items():
        yield _not_sent(why, number)


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _headings(plan: Plan) -> Sequence[str]:
    kinds = _shown_kinds(plan)
    return ("requests", "images", *kinds, usd_heading(emulated=plan.emulated), "time")


def _shown_kinds(plan: Plan) -> Sequence[str]:
    return [*_KINDS, *(kind for kind in _SELDOM if plan.total.in_images[kind])]


def _to_send(plan: Plan) -> str:
    """What a run would send, in requests: the unit that is paid."""
    total = plan.total
    usd = show_usd(total.usd, emulated=plan.emulated)
    requests, images = count_noun(total.sent, "request"), count_noun(total.sent_images, "image")
    return f"{requests} would be sent, for {images} and {usd}"


def _unknown_price(model: str, number: int) -> str:
    requests = count_noun(number, "request")
    return f"price unknown: {requests} of {model}, which no sum of USD here includes"


def _not_sent(why: str, number: int) -> str:
    return f"will not be sent: {count_noun(number, 'request')}: {why}"


def _sentence(plan: Plan) -> str:
    retry = f" and {plan.total.retry} that failed before" if plan.total.retry else ""
    if number := plan.total.pruned:
        retry += f" and {number} that {_were(number)} pruned"
    images = count_noun(plan.total.sent_images, "image")
    usd = show_usd(plan.total.usd, emulated=plan.emulated)
    new = f"**{count_noun(plan.total.new, 'new request')}{retry} for {images}, {usd}**"
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
    if each.choice is not None:
        shown["choice"] = each.choice.as_json()
    if each.shown is not None:
        shown["prompts"] = [one.as_json() for one in each.shown]
    parts = each.forecast.partitions.items()
    return shown | {"partitions": {key: _counts(value, rate) for key, value in parts}}


def _counts(forecast: Forecast, rate: float) -> dict[str, Any]:
    """Kinds in requests, and under ``in_images`` in images."""
    in_images = {kind: forecast.in_images[kind] for kind in (*_KINDS, *_SELDOM)}
    return {
        "requests": forecast.requests,
        "images": forecast.images,
        "unchanged": forecast.unchanged,
        "new": forecast.new,
        "retry": forecast.retry,
        "pruned": forecast.pruned,
        "returned": forecast.returned,
        "resumed": forecast.resumed,
        "held": forecast.held,
        "refused": forecast.refused,
        "in_images": in_images,
        "usd": round(forecast.usd, 6),
        "following": forecast.following,
        "unpriced": forecast.unpriced.total(),
        "unoffered": forecast.unoffered.total(),
        "seconds": round(forecast.seconds(rate), 3),
    }


def _fit_json(fit: BudgetFit) -> dict[str, Any]:
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


def _cells(forecast: Forecast, rate: float, kinds: Sequence[str]) -> list[str]:
    counts = (
        *(forecast.requests, forecast.images),
        *(forecast.in_images[kind] for kind in kinds),
    )
    minutes, seconds = divmod(round(forecast.seconds(rate)), 60)
    return [*map(str, counts), f"{forecast.usd:.4f}", f"{minutes}:{seconds:02d}"]


def _is_edited(each: SetPlan) -> bool:
    return bool(each.changes) and not each.is_new and not each.is_gone


def _set_change(each: SetPlan) -> str:
    return " (new set)" if each.is_new else " (set removed)" if each.is_gone else ""


def _changed_prompts(changes: Changes | None) -> Iterator[str]:
    if changes is None:
        return
    lists = {"added": changes.added, "edited": changes.edited, "removed": changes.removed}
    for what, names in lists.items():
        if names:
            yield f"{len(names)} {what}: {first_of(names, _MOST_NAMED)}"
