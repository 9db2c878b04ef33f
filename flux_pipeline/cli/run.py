"""`flux-pipeline run`: materializes prompt sets through Dagster, in this process."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
from rich.table import Table

from flux_pipeline.cli import INTERRUPTED, tables
from flux_pipeline.cli.announcement import announce
from flux_pipeline.cli.component_project import load_definitions
from flux_pipeline.cli.interrupts import counting_left_running
from flux_pipeline.cli.progress import Watch, watching
from flux_pipeline.cli.publish import open_publishing
from flux_pipeline.cli.unchanged import find_unchanged
from flux_pipeline.cli.workspace import (
    PartitionChoice,
    choose_partitions,
    choose_sets,
    configs_option,
    dagster_home,
    partition_options,
    read_settings,
    say_warning,
    say_warnings,
    sets_argument,
    ui_command,
)
from flux_pipeline.errors import ConfigError, StoreError
from flux_pipeline.garbage_collector import fewer_collections, loading
from flux_pipeline.produce.brake import limiting
from flux_pipeline.produce.budgets import Limits, check_prices
from flux_pipeline.produce.report import Tally, observing
from flux_pipeline.prompts import PromptSet, group_by_chain, in_order
from flux_pipeline.settings import Settings, find_missing_key, is_emulated
from flux_pipeline.store.open import open_store, sharing_stores
from flux_pipeline.text import count_noun, printable, show_usd, usd_heading

if TYPE_CHECKING:  # Dagster takes 2 s to import: a mistake is reported before that
    from dagster import DagsterInstance

    from flux_pipeline.defs.launch import Launched

_MOST_REASONS = 10
_COUNTED = ("requests", "images", "new", "unchanged", "refused", "failed", "not sent", "held")


@click.command()
@sets_argument
@configs_option
@partition_options
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Send at most N requests in this run; the next run goes on.",
)
@click.option("--yes", is_flag=True, help="Don't ask before a run that is paid for.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and no table.")
def run(
    sets: tuple[str, ...],
    configs: Path | None,
    partition: tuple[str, ...],
    first_day: str | None,
    last_day: str | None,
    limit: int | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Make the images of the prompt sets named, or of all.

    What was made before is not made again, and what was begun is resumed. On a terminal it asks
    before it sends what has to be paid. Exit code: 0 all is there, or --limit is reached, 1 some
    images are refused, failed, held or not sent, 2 the configuration is wrong.
    """
    settings = read_settings(configs)
    if problem := find_missing_key(settings):
        raise ConfigError([problem])
    chosen = choose_sets(settings, sets)
    choice = PartitionChoice(partition, first_day, last_day)
    asked = {prompt_set.name: choose_partitions(prompt_set, choice) for prompt_set in chosen}
    if not (yes or is_emulated(settings.provider)) and sys.stdin.isatty() and sys.stderr.isatty():
        _ask_before_paying(settings, chosen, asked, limit)
    make(settings, chosen, asked, as_json=as_json, limit=limit)


@sharing_stores()
def make(
    settings: Settings,
    chosen: Sequence[PromptSet],
    asked: Mapping[str, Sequence[str] | None],
    *,
    as_json: bool,
    limit: int | None = None,
) -> NoReturn:
    """Make the partitions asked for of each set, print what came of it, and exit.

    ``limit`` is how many requests may be sent; None is any number.

    Raises:
        ConfigError: The day's budget can't be kept, because the price of a model is unknown.
    """
    limits = Limits(usd_per_day=settings.budget_usd_per_day)
    check_prices(limits, [model for each in chosen for model in each.models])
    announce(settings)
    expected = {each.name: count_images(each, asked[each.name]) for each in chosen}
    failures: dict[str, Launched] = {}
    interrupted = False
    emulated = is_emulated(settings.provider)
    with (
        counting_left_running() as left,
        watching(expected, emulated=emulated) as watch,
        limiting(limit),
    ):
        try:
            _launch(settings, chosen, asked, watch, failures)
        except KeyboardInterrupt:  # the run was drained
            interrupted = True
        watch.expected = {**expected, **_followers_asked(settings, chosen, asked)}
    watch.finish()
    if interrupted:
        click.echo(left.sentence(), err=True)
    if interrupted and not as_json:  # the line that says what runs on is the last one
        sys.exit(INTERRUPTED)
    if as_json:
        click.echo(summary_json(watch.tallies, watch.total, emulated=emulated))
    else:
        print_summary(watch, _places(settings, chosen), _unpriced(watch, chosen))
    _say_failures(failures, reasons_shown=bool(watch.reasons) and not as_json)
    if interrupted:
        sys.exit(INTERRUPTED)
    done = watch.total
    if limit is not None and done.unsent and not failures:
        more = count_noun(done.unsent, "image")
        click.echo(f"--limit {limit} is reached: {more} left for the next runs", err=True)
        done = replace(done, asked=done.asked - done.unsent)
    sys.exit(0 if done.complete and not failures else 1)


def _ask_before_paying(
    settings: Settings,
    chosen: Sequence[PromptSet],
    asked: Mapping[str, Sequence[str] | None],
    limit: int | None,
) -> None:
    """Ask once whether to send what has to be paid, with the sum; say nothing where that is none.

    Raises:
        click.Abort: The answer is no.
    """
    from flux_pipeline.audit.ownership import check_provider
    from flux_pipeline.ledger.open import open_ledger
    from flux_pipeline.produce.plan import Forecast, forecast
    from flux_pipeline.produce.source_pictures import LedgerPictures

    total = Forecast()
    with open_ledger(settings.ledger) as ledger:
        check_provider(ledger, emulated=False)
        for each in in_order(chosen):
            unpriced = {model.name for model in each.models if not model.price.is_known}
            requests = each.requests(asked[each.name], pictures=LedgerPictures(ledger))
            offered = settings.models
            total.merge(forecast(requests, ledger, unpriced=unpriced, offered=offered).total)
    if not total.sent:
        return
    sent, images = count_noun(total.sent, "request"), count_noun(total.sent_images, "image")
    most = f"at most {limit} of " if limit is not None and limit < total.sent else ""
    unknown = total.unpriced.total()
    beyond = f", and {count_noun(unknown, 'request')} of unknown price" if unknown else ""
    usd = f"{'up to ' if most else ''}{show_usd(total.usd)}"
    click.confirm(
        f"Send {most}{sent} for {images} to {settings.provider}, {usd} by estimate{beyond}?",
        abort=True,
        err=True,
    )


def _followers_asked(
    settings: Settings,
    chosen: Sequence[PromptSet],
    asked: Mapping[str, Sequence[str] | None],
) -> Mapping[str, int]:
    """The images asked for of the sets that are made for pictures of others, as those came out.

    Where a source was refused, nothing follows from it.
    """
    from flux_pipeline.ledger.open import open_ledger
    from flux_pipeline.produce.source_pictures import LedgerPictures

    followers = [each for each in chosen if each.sources]
    if not followers:
        return {}
    with open_ledger(settings.ledger) as ledger:
        pictures = LedgerPictures(ledger)
        return {
            each.name: sum(
                request.outputs for request in each.requests(asked[each.name], pictures=pictures)
            )
            for each in followers
        }


def count_images(prompt_set: PromptSet, partitions: Sequence[str] | None) -> int:
    """The images asked for; says the warnings about them, in the one pass over large tables."""
    say_warnings(prompt_set)
    return sum(draft.form.outputs for draft in prompt_set.drafts(partitions, say_warning))


def _launch(
    settings: Settings,
    chosen: Sequence[PromptSet],
    asked: Mapping[str, Sequence[str] | None],
    watch: Watch,
    failures: "dict[str, Launched]",
) -> None:
    """Run every set, then the shared assets; add failed runs to ``failures`` and send alerts.

    Sets of which everything is made share a run. The shared assets are left as they are where
    nothing has changed since they were made.
    """
    with loading():
        from flux_pipeline.defs.alert_sensors import notify_launched
        from flux_pipeline.defs.automation import REFRESH_SHARED_ASSETS
        from flux_pipeline.defs.launch import (
            join_launched,
            launch_chain,
            launch_job,
            launch_together,
            open_instance,
        )
        from flux_pipeline.defs.unchanged import CONFIRM_UNCHANGED
        from flux_pipeline.resources import AlertSender

        definitions, location = load_definitions()
        sender = AlertSender.with_values(settings)
        opened = open_instance(dagster_home())

    def note(name: str, run: "Launched") -> None:
        if not run.success:
            failures[name] = run
            notify_launched(instance, run, sender)

    with opened as instance, observing(watch, watch.follow), fewer_collections():
        unchanged = find_unchanged(settings, chosen, asked, watch.expected)
        if unchanged and definitions.get_repository_def().has_job(CONFIRM_UNCHANGED):
            runs = launch_together(instance, definitions, unchanged, location=location)
            if failed := {name: run for name, run in runs.items() if not run.success}:
                failures.update(failed)
                notify_launched(instance, join_launched(failed), sender)
            chosen = [each for each in chosen if each not in unchanged]
        for chain in group_by_chain(chosen):
            partitions = asked[chain[0].name]
            for run in launch_chain(instance, definitions, chain, partitions, location=location):
                note(", ".join(each.name for each in chain), run)
        has_shared = definitions.get_repository_def().has_job(REFRESH_SHARED_ASSETS)
        if has_shared and not _shared_assets_are_current(settings, instance):
            refresh = launch_job(instance, definitions, REFRESH_SHARED_ASSETS, location=location)
            note("lineage and spend", refresh)


def _shared_assets_are_current(settings: Settings, instance: "DagsterInstance") -> bool:
    from flux_pipeline.defs.shared_assets import are_current

    try:
        return are_current(instance, open_store(settings.store, settings.store_options))
    except StoreError:  # their run says what is wrong with the store
        return False


def _say_failures(failures: "Mapping[str, Launched]", *, reasons_shown: bool) -> None:
    """Print why runs failed, each reason once with the prompt sets that have it."""
    alike: dict[str, list[str]] = {}
    for name, failed in failures.items():
        # The table of the summary has the reasons of the partitions already.
        counted = reasons_shown and "flux/failed_partitions" in failed.metadata
        reason = failed.reason.partition("\n")[0] if counted else failed.reason
        alike.setdefault(reason, []).append(name)
    for reason, names in alike.items():
        click.echo(f"{', '.join(names)}: {reason}", err=True)


def _places(settings: Settings, chosen: Sequence[PromptSet]) -> Mapping[str, str]:
    from flux_pipeline.gallery.manifest import OVERVIEW, gallery_key

    uri = open_store(settings.store, settings.store_options).uri
    places = {"pictures": f"{uri}/images"}
    for prompt_set in chosen:
        places[f"gallery {prompt_set.name}"] = f"{uri}/{gallery_key(prompt_set.name)}"
    for prompt_set in chosen:
        if prompt_set.publish is not None:
            index_uri = open_publishing(settings).index_uri(prompt_set, prompt_set.publish)
            places[f"published {prompt_set.name}"] = index_uri
    places["gallery of all"] = f"{uri}/{OVERVIEW}"
    return places | {
        "lineage": f"{uri}/lineage",
        "see the runs": ui_command(settings),
    }


def summary_json(tallies: Mapping[str, Tally], total: Tally, *, emulated: bool) -> str:
    """One line of JSON: ``{sets: {name: counts}, total: counts, emulated}``.

    Counts are of images, but for ``requests`` and ``created``; USD are rounded to a millionth, and
    are no money where ``emulated`` is true.
    """
    sets = {name: _counts(tally) for name, tally in tallies.items()}
    return json.dumps({"sets": sets, "total": _counts(total), "emulated": emulated})


def _unpriced(watch: Watch, chosen: Sequence[PromptSet]) -> Sequence[str]:
    """The models of unknown price of the sets that were paid for something."""
    paid = [
        each for each in chosen if each.name in watch.tallies and watch.tallies[each.name].created
    ]
    names = {model.name for each in paid for model in each.models if not model.price.is_known}
    return sorted(names)


def print_summary(watch: Watch, places: Mapping[str, str], unpriced: Sequence[str] = ()) -> None:
    """Print the table, the reasons why images are missing, and the addresses of the results."""
    table = Table(box=None, pad_edge=False)
    table.add_column("prompt set", overflow="fold")  # a name that is cut names nothing
    for heading in (*_COUNTED, usd_heading(emulated=watch.emulated)):
        table.add_column(heading, justify="right")
    total = watch.total
    for name, tally in sorted(watch.tallies.items()):
        table.add_row(name, *_cells(tally))
    if len(watch.tallies) > 1:
        table.add_row("total", *_cells(total), style="bold")
    tables.print_table(table)
    usd = show_usd(total.usd, emulated=watch.emulated)
    paid = "emulated, which costs nothing" if watch.emulated else "paid"
    click.echo(f"counted are images; {count_noun(total.created, 'prediction')} {paid}: {usd}")
    for model in unpriced:
        click.echo(f"price unknown: no sum of USD here includes what {model} costs")
    for line in watch.reasons.lines(_MOST_REASONS):
        click.echo(printable(line))
    for notice in watch.notices[:_MOST_REASONS]:
        click.echo(f"note: {printable(notice)}")
    if len(watch.notices) > _MOST_REASONS:
        click.echo(f"and {len(watch.notices) - _MOST_REASONS} more notes")
    width = max(map(len, places)) + 2
    click.echo()
    for what, where in places.items():
        click.echo(f"{what:<{width}}{where}")


def _counts(tally: Tally) -> dict[str, int | float]:
    return asdict(tally) | {"usd": round(tally.usd, 6)}


def _cells(tally: Tally) -> list[str]:
    counts = (
        *(tally.requests, tally.asked, tally.stored, tally.unchanged),
        *(tally.refused, tally.failed, tally.unsent, tally.held),
    )
    return [*map(str, counts), f"{tally.usd:.4f}"]
