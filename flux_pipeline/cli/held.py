"""`flux-pipeline held`: what may have been paid and waits for a person."""

import sys
from collections.abc import Sequence

import click

from flux_pipeline.audit.held import Held, find_held
from flux_pipeline.cli.adopt import adopt
from flux_pipeline.cli.held_requests import choose_held, held_json
from flux_pipeline.cli.workspace import read_settings
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.ledger.sql import SqlLedger

_SHORT = 12
_PROMPT = 60

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, and no text.")
_yes = click.option("--yes", is_flag=True, help="Don't ask.")
_requests = click.argument("requests", nargs=-1, metavar="[REQUEST]...")


@click.group(invoke_without_command=True)
@click.pass_context
def held(context: click.Context) -> None:
    """List what may have been paid and can't be proven, and end it.

    A REQUEST is the beginning of a fingerprint, as `list` shows it.
    """
    if context.invoked_subcommand is None:
        context.invoke(show)


held.add_command(adopt)


@held.command("list")
@_as_json
def show(as_json: bool) -> None:
    """Show what is held: request, when it was sent, what it may have cost, its prompt."""
    with _ledger() as ledger:
        found = find_held(ledger)
    if as_json:
        click.echo(held_json(found))
        return
    for each in found:
        line = " ".join(each.prompt.split())
        prompt = "".join(char if char.isprintable() else "?" for char in line)
        short = prompt if len(prompt) <= _PROMPT else f"{prompt[:_PROMPT]}…"
        since = f"{each.since:%Y-%m-%d %H:%M} UTC"
        click.echo(f"{each.request_sha256[:_SHORT]}  {since}  {each.usd:.4f} USD  {short}")
    usd = sum(each.usd for each in found)
    click.echo(f"{len(found)} held, {usd:.4f} USD at most" if found else "nothing is held")


@held.command()
@_requests
@_yes
@_as_json
def resend(requests: Sequence[str], yes: bool, as_json: bool) -> None:
    """Let the next run send them again, all where none is named; each may then be paid twice."""
    from flux_pipeline.audit.held import resend as give_up

    with _ledger() as ledger:
        chosen = choose_held(find_held(ledger), requests)
        usd = sum(each.usd for each in chosen)
        _ask(f"send {len(chosen)} again, for at most {usd:.4f} USD more?", chosen, yes)
        _report("are sent again by the next run", chosen, give_up(ledger, chosen), as_json)


@held.command()
@_requests
@_yes
@_as_json
def drop(requests: Sequence[str], yes: bool, as_json: bool) -> None:
    """Give them up for good, all where none is named: the same request is never sent again."""
    from flux_pipeline.audit.held import drop as give_up

    with _ledger() as ledger:
        chosen = choose_held(find_held(ledger), requests)
        _ask(f"give up {len(chosen)} for good?", chosen, yes or bool(requests))
        _report("are given up", chosen, give_up(ledger, chosen), as_json)


def _ledger() -> SqlLedger:
    return open_ledger(read_settings(None).ledger)


def _ask(question: str, chosen: Sequence[Held], yes: bool) -> None:
    if chosen and not yes:
        click.confirm(question, abort=True, err=True)


def _report(what: str, chosen: Sequence[Held], ended: Sequence[Held], as_json: bool) -> None:
    if as_json:
        click.echo(held_json(ended))
    else:
        click.echo(f"{len(ended)} {what}")
    if len(ended) < len(chosen):
        click.echo(f"{len(chosen) - len(ended)} had changed meanwhile: list them again", err=True)
        sys.exit(1)
