"""`flux-pipeline rescue`: finishes predictions of runs that died, by their id."""

import json
import sys
from typing import TYPE_CHECKING
from uuid import uuid4

import click

from flux_pipeline.cli import INTERRUPTED
from flux_pipeline.cli.announcement import announce
from flux_pipeline.cli.interrupts import counting_left_running
from flux_pipeline.cli.producer import open_producer
from flux_pipeline.cli.workspace import read_settings
from flux_pipeline.text import printable

if TYPE_CHECKING:
    from flux_pipeline.audit.rescue import Rescued

_MOST_REASONS = 10


@click.command()
@click.option("--expired", is_flag=True, help="Look again for what is recorded as paid and lost.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and no text.")
def rescue(expired: bool, as_json: bool) -> None:
    """Finish what was accepted and left; create nothing.

    Left is what a process on this machine held that is gone, and anything that nobody has gone on
    with for two minutes. With --expired also what was believed to be gone, as long as the provider
    has it. Dagster does the first every ten minutes. Exit code: 0, or 1 where something that was or
    may have been paid is still open, held or lost.
    """
    from flux_pipeline.audit.rescue import rescue as finish_left
    from flux_pipeline.audit.rescue import rescue_expired

    finish = rescue_expired if expired else finish_left
    settings = read_settings(None)
    announce(settings)
    with counting_left_running() as left:
        try:
            with open_producer(settings) as producer:
                done = finish(producer, run_id=f"rescue-{uuid4().hex[:12]}")
                unfinished = producer.ledger.unfinished()
        except KeyboardInterrupt:
            click.echo(left.sentence("the next run or rescue"), err=True)
            sys.exit(INTERRUPTED)
    claimed = max(sum(each.state.is_open for each in unfinished) - _count_open(done), 0)
    states = {state.value: count for state, count in done.states.items()}
    if as_json:
        report: dict[str, object] = {"ok": done.complete, "found": done.found, "states": states}
        report |= {"reasons": done.reasons.counts(), "notices": done.notices}
        report |= {"store_error": done.store_error and str(done.store_error)}
        report |= {"claimed": claimed}
        click.echo(json.dumps(report | {"unreadable": done.unreadable}))
    else:
        now = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        click.echo(f"{done.found} left over; now {now or 'nothing to be done'}")
        for line in done.reasons.lines(_MOST_REASONS):
            click.echo(printable(line))
        if done.store_error is not None:
            click.echo(f"store: {printable(str(done.store_error))}")
        if claimed:
            wait = "two minutes after its end they are free"
            click.echo(f"{claimed} more are claimed by a run that may be at work: {wait}")
        for notice in done.notices[:_MOST_REASONS]:
            click.echo(f"note: {printable(notice)}")
        for sha, reason in done.unreadable.items():
            click.echo(f"not finished: {sha}: {printable(reason)}")
    sys.exit(0 if done.complete else 1)


def _count_open(done: "Rescued") -> int:
    return sum(count for state, count in done.states.items() if state.is_open)
