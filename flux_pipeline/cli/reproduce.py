"""`flux-pipeline reproduce`: makes an image again, which is paid again, and compares both."""

import json
import sys
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import uuid4

import click

from flux_pipeline.cli import INTERRUPTED
from flux_pipeline.cli.announcement import announce
from flux_pipeline.cli.component_project import load_sets, place_of_sets, read_process_settings
from flux_pipeline.cli.interrupts import counting_left_running
from flux_pipeline.cli.trace import open_table
from flux_pipeline.settings import is_emulated
from flux_pipeline.text import count_noun, printable, show_usd

if TYPE_CHECKING:
    from flux_pipeline.prompts import PromptSet
    from flux_pipeline.provenance.reproduce import Plan, Reproduction
    from flux_pipeline.settings import Settings


@click.command()
@click.argument("target", metavar="FILE|ID")
@click.option("--dry-run", is_flag=True, help="Say what would be sent and cost; send nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and no text.")
def reproduce(target: str, dry_run: bool, as_json: bool) -> None:
    """Send what made an image once more, which costs money, and compare what comes.

    The original stays as it is. All images of its prediction are made again. Exit code: 0 all are
    identical or similar, 1 one is different or did not come.
    """
    from flux_pipeline.settings import find_missing_key

    settings = read_process_settings()
    plan = _plan(settings, target)
    if dry_run:
        _say_plan(plan, as_json=as_json, emulated=is_emulated(settings.provider))
        return
    if problem := find_missing_key(settings):
        from flux_pipeline.errors import ConfigError

        raise ConfigError([problem])
    announce(settings)
    if not as_json:
        cost = _cost(plan, emulated=is_emulated(settings.provider))
        click.echo(f"{cost}; what was begun by an earlier try is not paid again", err=True)
    with counting_left_running() as left:
        try:
            done = _reproduce(settings, plan, as_json=as_json)
        except KeyboardInterrupt:
            click.echo(left.sentence("the same command"), err=True)
            sys.exit(INTERRUPTED)
    sys.exit(0 if done.verdict in {"identical", "similar"} else 1)


def _plan(settings: "Settings", target: str) -> "Plan":
    from flux_pipeline.provenance.trace import answer_to

    store, snapshot = open_table()
    answer, why = answer_to(store, snapshot, target)
    if answer is None or answer.record is None:
        click.echo(f"not known: {printable(target)}: {printable(why or _notes(answer))}", err=True)
        sys.exit(1)
    if answer.certainty != "certain":
        click.echo(f"note: {'; '.join(map(printable, answer.notes)) or answer.certainty}", err=True)
    from flux_pipeline.models import Catalog
    from flux_pipeline.provenance.reproduce import plan_reproduction

    catalog = Catalog.of_configs(place_of_sets(settings))
    return plan_reproduction(
        snapshot, store, answer.record, lambda name: _set(settings, name), catalog
    )


def _set(settings: "Settings", name: str) -> "PromptSet":
    from flux_pipeline.errors import ConfigError, Problem

    for prompt_set in load_sets(settings):
        if prompt_set.name == name:
            return prompt_set
    message = (
        f"has no prompt set {name}, which alone has secrets or files of this input: restore it"
    )
    raise ConfigError([Problem(str(place_of_sets(settings)), 0, "", message)])


def _reproduce(settings: "Settings", plan: "Plan", *, as_json: bool) -> "Reproduction":
    from flux_pipeline.cli.producer import open_producer
    from flux_pipeline.models import Catalog
    from flux_pipeline.produce.budgets import Limits, check_prices
    from flux_pipeline.provenance.reproduce import as_json as described
    from flux_pipeline.provenance.reproduce import reproduce as send_again
    from flux_pipeline.provenance.reproduce import write_report

    limits = Limits(usd_per_day=settings.budget_usd_per_day)
    with suppress(KeyError):  # of a model that is not known any more the recorded cost counts
        check_prices(limits, [Catalog.of_configs(place_of_sets(settings)).find(plan.request.model)])
    with open_producer(settings) as producer:
        done = send_again(producer, plan, run_id=f"reproduce-{uuid4().hex[:12]}", limits=limits)
        if as_json:
            click.echo(json.dumps(described(done)))
        else:
            _say(done, emulated=is_emulated(settings.provider))
        write_report(producer.store, done)
    return done


def _say_plan(plan: "Plan", *, as_json: bool, emulated: bool) -> None:
    request = plan.request
    if as_json:
        from flux_pipeline.redaction import redact_input

        found = {
            "dry_run": True,
            "original": plan.original,
            "take": request.source.take,
            "model": request.model,
            "version": request.version,
            "input": redact_input(request.input),
            "usd": round(request.cost_usd, 6),
            "emulated": emulated,
            "notes": plan.doubts,
        }
        click.echo(json.dumps(found))
        return
    click.echo(f"{_cost(plan, emulated=emulated)}; nothing was sent")
    for doubt in plan.doubts:
        click.echo(f"note: {doubt}")


def _cost(plan: "Plan", *, emulated: bool) -> str:
    request = plan.request
    images = count_noun(request.outputs, "image")
    usd = show_usd(request.cost_usd, emulated=emulated)
    return f"{images} of {request.model}, {usd} by estimate"


def _say(done: "Reproduction", *, emulated: bool) -> None:
    for image in done.images:
        bits = "" if image.distance is None else f", {image.distance} of 64 bits of looks differ"
        reason = f": {printable(image.reason)}" if image.reason else ""
        click.echo(f"output {image.output_index}  {image.verdict}{bits}{reason}")
        click.echo(f"  original   {image.original_uri or 'unknown'}")
        click.echo(f"  made now   {image.uri or 'nothing'}")
    for note in done.notes:
        click.echo(f"note: {printable(note)}")
    paid = "by estimate" if emulated else "paid, by estimate"
    click.echo(f"{done.verdict}; {show_usd(done.usd, emulated=emulated)} {paid}")


def _notes(answer: object) -> str:
    return "; ".join(getattr(answer, "notes", [])) or "nothing is recorded of it"
