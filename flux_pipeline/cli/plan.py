"""`flux-pipeline plan`: what a run would make and cost; nothing is sent."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import click

from flux_pipeline.cli.plan_output import Plan, SetPlan, as_json, as_markdown, print_table
from flux_pipeline.cli.workspace import choose_partitions, choose_sets, read_settings
from flux_pipeline.ledger.base import Ledger
from flux_pipeline.produce.budgets import Limits
from flux_pipeline.produce.plan import Before, Changes, Fit, SetForecast, forecast, open_fits
from flux_pipeline.prompts import ByDay, PromptSet
from flux_pipeline.settings import is_emulated


@click.command()
@click.argument("sets", nargs=-1, metavar="[SET]...")
@click.option(
    "--configs", type=click.Path(path_type=Path), help="Folder of prompt sets. [FLUX_CONFIGS]"
)
@click.option("--partition", metavar="KEY", help="One partition: a prompt, a shard or a day.")
@click.option(
    "--changed-since", metavar="REV", help="What the change since this git revision costs."
)
@click.option("--json", "json_wanted", is_flag=True, help="Print one JSON object, and no table.")
@click.option("--markdown", is_flag=True, help="Print Markdown, for a comment on a pull request.")
def plan(
    sets: tuple[str, ...],
    configs: Path | None,
    partition: str | None,
    changed_since: str | None,
    json_wanted: bool,
    markdown: bool,
) -> None:
    """Say what would be made, what exists already, and what it would cost.

    Costs are estimates from the model's price table; times assume the configured rate. With
    --changed-since, new is only what REV's prompt sets did not ask for.
    """
    from flux_pipeline.audit.ownership import check_provider
    from flux_pipeline.ledger.open import open_ledger

    if json_wanted and markdown:
        raise click.UsageError("--json and --markdown exclude each other")
    settings = read_settings(configs)
    chosen = choose_sets(settings, sets)
    day = Limits(usd_per_day=settings.budget_usd_per_day)
    with open_ledger(settings.ledger) as ledger:
        check_provider(ledger, emulated=is_emulated(settings.provider))
        made = Plan(rate=settings.rate, day=open_fits(day, ledger, prompt_set="", now=_now()))
        if changed_since is None:
            for prompt_set in chosen:
                _warn(prompt_set)
                requests = prompt_set.requests(choose_partitions(prompt_set, partition))
                fits = _fits(prompt_set, ledger)
                done = forecast(requests, ledger, fits=[*fits, *made.day])
                made.add(SetPlan(prompt_set.name, done, fits))
        else:
            whole = not sets
            with _compared(settings.configs, changed_since, partition, made) as (before, earlier):
                _forecast_changes(chosen, partition, ledger, made, before, earlier)
                if whole:
                    _add_removed_sets(chosen, earlier, made)
    if json_wanted:
        click.echo(as_json(made))
    elif markdown:
        click.echo(as_markdown(made))
    else:
        print_table(made)


@contextmanager
def _compared(
    configs: Path, rev: str, partition: str | None, made: Plan
) -> Iterator[tuple[Before, dict[str, PromptSet]]]:
    """What was asked for at the revision, and its prompt sets while their files are there."""
    from flux_pipeline.prompts.git import open_revision

    with open_revision(configs, rev) as revision:
        made.rev, made.commit = revision.rev, revision.commit
        before, earlier = Before(), {each.name: each for each in revision.prompt_sets}
        for name, prompt_set in earlier.items():
            before.add(name, prompt_set.requests(_days(prompt_set, partition)))
        yield before, earlier


def _forecast_changes(
    chosen: Sequence[PromptSet],
    partition: str | None,
    ledger: Ledger,
    made: Plan,
    before: Before,
    earlier: dict[str, PromptSet],
) -> None:
    for prompt_set in chosen:
        _warn(prompt_set)
        name, keys, changes = prompt_set.name, choose_partitions(prompt_set, partition), Changes()
        requests = before.watch(name, prompt_set.requests(keys), changes)
        fits = _fits(prompt_set, ledger)
        done = forecast(requests, ledger, fits=[*fits, *made.day], before=before)
        if name in earlier:
            was = earlier[name]
            changes.removed.extend(before.gone(name, was.names_in(partition)))
        made.add(SetPlan(name, done, fits, changes, is_new=name not in earlier))


def _add_removed_sets(
    chosen: Sequence[PromptSet], earlier: dict[str, PromptSet], made: Plan
) -> None:
    for name in sorted(earlier.keys() - {prompt_set.name for prompt_set in chosen}):
        changes = Changes(removed=list(earlier[name].names_in(None)))
        made.add(SetPlan(name, SetForecast(), [], changes, is_gone=True))


def _days(prompt_set: PromptSet, partition: str | None) -> Sequence[str] | None:
    """All of an earlier set; by day the day that is asked for now, if it had begun."""
    cut = prompt_set.partitions
    if not isinstance(cut, ByDay):
        return None
    try:
        day = date.fromisoformat(partition or "")
    except ValueError:
        day = datetime.now(ZoneInfo(cut.timezone)).date()
    return [day.isoformat()] if day >= cut.start else []


def _fits(prompt_set: PromptSet, ledger: Ledger) -> list[Fit]:
    budget = prompt_set.budget
    limits = Limits(usd_per_run=budget.usd_per_run, usd_per_month=budget.usd_per_month)
    return open_fits(limits, ledger, prompt_set=prompt_set.name, now=_now())


def _warn(prompt_set: PromptSet) -> None:
    for problem in prompt_set.warnings:
        click.echo(f"warning: {problem}", err=True)


def _now() -> datetime:
    return datetime.now(UTC)
