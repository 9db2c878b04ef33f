"""`flux-pipeline publish`: delivers the chosen pictures of prompt sets, with an index."""

import getpass
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flux_pipeline.cli.progress import counting
from flux_pipeline.cli.workspace import (
    PartitionChoice,
    choose_partitions,
    choose_sets,
    configs_option,
    partition_options,
    read_settings,
    sets_argument,
)
from flux_pipeline.errors import ConfigError, FluxPipelineError, Problem
from flux_pipeline.text import printable

if TYPE_CHECKING:
    from flux_pipeline.prompts import PromptSet
    from flux_pipeline.publish.publisher import Prepared, Publishing, PublishReport
    from flux_pipeline.settings import Settings

_COUNTS = ("images", "files", "written", "unchanged", "removed", "undecided")
_MOST_LINES = 20


@click.command()
@sets_argument
@configs_option
@partition_options
@click.option(
    "--again",
    multiple=True,
    metavar="NAME",
    help="Publish a picture again that was taken down; several times for several.",
)
@click.option("--by", metavar="NAME", help="Who does this, for the record. [this user]")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and no text.")
def publish(
    sets: tuple[str, ...],
    configs: Path | None,
    partition: tuple[str, ...],
    first_day: str | None,
    last_day: str | None,
    again: tuple[str, ...],
    by: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Deliver the chosen pictures of prompt sets to where their `publish` says, with an index.

    Without names, of every set that has `publish`; of a set by day, today's. What is unchanged is
    not fetched. Exit code: 0, 1 where something chosen was not delivered, 2 where the
    configuration is wrong and nothing was written.
    """
    settings = read_settings(configs)
    choice = PartitionChoice(partition, first_day, last_day)
    chosen = _publishing_sets(settings, sets)
    publishing = open_publishing(settings)
    prepared = _prepare(chosen, choice, publishing, again)
    reports, failed = [], {}
    for each in prepared:
        name = each.prompt_set.name
        try:
            with counting(f"pictures of {name}") as count:
                report = each.deliver(
                    dry_run=dry_run, by=by or user_name(), on_progress=count, on_wait=say_waiting
                )
        except FluxPipelineError as error:  # of this target: the other sets have their own
            failed[name] = str(error)
            click.echo(f"{name}: {printable(str(error))}", err=True)
            continue
        reports.append(report)
        if not as_json:
            _say(report)
    if as_json:
        click.echo(json.dumps(_described(reports, failed), ensure_ascii=False))
    sys.exit(1 if failed or any(report.problems for report in reports) else 0)


def open_publishing(settings: "Settings") -> "Publishing":
    """Store, ledger and signer of the settings.

    Raises:
        ConfigError: The signer's files are wrong.
        StoreError: The store's address is none.
    """
    from flux_pipeline.images.signing import open_signer
    from flux_pipeline.publish.publisher import THREADS, Publishing
    from flux_pipeline.store.open import open_store

    return Publishing(
        store=open_store(settings.store, settings.store_options, concurrency=2 * THREADS),
        ledger=settings.ledger,
        store_options=settings.store_options,
        signer=open_signer(settings.c2pa_cert, settings.c2pa_key, settings.c2pa_tsa),
        embed_prompt=settings.embed_prompt == "yes",
    )


def user_name() -> str:
    """Who runs this command, for records of what was done by hand."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without such a user
        return "unknown"


def _publishing_sets(settings: "Settings", names: Sequence[str]) -> "Sequence[PromptSet]":
    """The sets of these names; without any, those that publish. Raises ConfigError."""
    chosen = choose_sets(settings, names)
    found = [each for each in chosen if names or each.publish is not None]
    if not found:
        message = "no prompt set has `publish`: add it to one, with the variants to be made"
        raise ConfigError([Problem(str(settings.configs), 0, "", message)])
    return found


def _prepare(
    chosen: "Sequence[PromptSet]",
    choice: PartitionChoice,
    publishing: "Publishing",
    again: Sequence[str],
) -> "list[Prepared]":
    """Choose and name the pictures of all sets, before anything is written.

    Raises:
        ConfigError: With what is wrong in any of them.
    """
    from flux_pipeline.publish.publisher import prepare_set

    prepared: list[Prepared] = []
    problems: list[Problem] = []
    for each in chosen:
        partitions = choose_partitions(each, choice)
        try:
            prepared.append(prepare_set(each, partitions, publishing=publishing, again=again))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    known = {taken.name for each in prepared for taken in each.allowed}
    if unknown := sorted(set(again) - known):
        raise click.BadParameter(f"--again: nothing was taken down of {', '.join(unknown)}")
    return prepared


def say_waiting() -> None:
    """Say why nothing happens for a while."""
    click.echo("another publisher is at work there: waiting", err=True)


def _say(report: "PublishReport") -> None:
    click.echo(f"{report.prompt_set}: {report.line()}; {printable(report.index_uri)}")
    for line in _notes(report):
        click.echo(f"{report.prompt_set}: {printable(line)}", err=True)


def _notes(report: "PublishReport") -> Iterator[str]:
    yield from report.problems[:_MOST_LINES]
    if len(report.problems) > _MOST_LINES:
        yield f"and {len(report.problems) - _MOST_LINES} problems more; --json has all"
    if report.undecided:
        more = len(report.undecided) - _MOST_LINES
        named = ", ".join(report.undecided[:_MOST_LINES])
        yield f"undecided: {named}{f' and {more} more' if more > 0 else ''}"


def _described(reports: "Sequence[PublishReport]", failed: dict[str, str]) -> dict[str, Any]:
    counts = {report.prompt_set: report.counts() for report in reports}
    counts |= {name: dict.fromkeys(_COUNTS, 0) for name in failed}
    more: dict[str, dict[str, Any]] = {
        report.prompt_set: {
            "to": report.uri,
            "index": report.index_uri,
            "left": report.left,
            "taken_down": report.taken_down,
            "problems": list(report.problems),
        }
        for report in reports
    }
    more |= {name: {"problems": [error]} for name, error in failed.items()}
    total = {name: sum(found[name] for found in counts.values()) for name in _COUNTS}
    return {"sets": {name: counts[name] | more[name] for name in counts}, "total": total}
