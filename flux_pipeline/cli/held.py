"""`flux-pipeline held`: lists and ends requests that may have been paid and can't be proven."""

import json
import sys
from collections.abc import Sequence
from uuid import uuid4

import click

from flux_pipeline.audit.held import Held, choose, find_held
from flux_pipeline.cli.announcement import announce
from flux_pipeline.cli.producer import open_producer
from flux_pipeline.cli.workspace import read_settings
from flux_pipeline.ledger.base import State
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.ledger.sql import SqlLedger
from flux_pipeline.settings import is_emulated
from flux_pipeline.text import printable, shorten, show_usd

_SHORT = 12
"""Digits of a fingerprint in the list."""
_SHA = 64
"""Digits of a whole fingerprint."""
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


@held.command("list")
@_as_json
def show(as_json: bool) -> None:
    """Show what is held: request, when it was sent, what it may have cost, its prompt."""
    settings = read_settings(None)
    emulated = is_emulated(settings.provider)
    with open_ledger(settings.ledger) as ledger:
        found = find_held(ledger)
    if as_json:
        click.echo(held_json(found, emulated=emulated))
        return
    for each in found:
        prompt = printable(shorten(each.prompt, _PROMPT))
        since = f"{each.since:%Y-%m-%d %H:%M} UTC"
        usd = show_usd(each.usd, emulated=emulated)
        click.echo(f"{each.request_sha256[:_SHORT]}  {since}  {usd}  {prompt}")
    most = show_usd(sum(each.usd for each in found), emulated=emulated)
    click.echo(f"{len(found)} held, {most} at most" if found else "nothing is held")


@held.command()
@_requests
@_yes
@_as_json
def resend(requests: Sequence[str], yes: bool, as_json: bool) -> None:
    """Let the next run send them again, all where none is named; each may then be paid twice."""
    from flux_pipeline.audit.held import resend as give_up

    settings = read_settings(None)
    announce(settings)
    with open_ledger(settings.ledger) as ledger:
        chosen = choose_held(find_held(ledger), requests)
        usd = show_usd(sum(each.usd for each in chosen), emulated=is_emulated(settings.provider))
        _ask(f"send {len(chosen)} again, for at most {usd} more?", chosen, yes)
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


@held.command()
@click.argument("request")
@click.argument("prediction_id")
@click.option("--force", is_flag=True, help="Even if the provider does not confirm it.")
@_as_json
def adopt(request: str, prediction_id: str, force: bool, as_json: bool) -> None:
    """Note that PREDICTION_ID is the REQUEST's, and fetch its images.

    The provider must show it with the request's whole input. REQUEST may be any request's whole
    fingerprint too, as `verify` names it. Before an id that begins with - write -- alone.
    """
    from flux_pipeline.audit.held import adopt as take

    settings = read_settings(None)
    announce(settings)
    with open_producer(settings) as producer:
        sha = request
        if len(request) != _SHA:
            sha = choose_held(find_held(producer.ledger), [request])[0].request_sha256
        done = take(producer, sha, prediction_id, run_id=f"adopt-{uuid4().hex[:12]}", force=force)
        state = producer.ledger.find([sha])[sha].state
    twice = done.state is State.DUPLICATE
    if as_json:
        answer = {"request": sha, "prediction": prediction_id, "paid_twice": twice}
        click.echo(json.dumps(answer | {"state": state.value}))
    elif twice:
        click.echo(f"{prediction_id}: noted as paid twice; the request is {state.value}")
    else:
        reasons = "".join(f": {reason}" for reason in done.rescued.reasons.counts())
        click.echo(f"{prediction_id}: the request is {state.value}{reasons}")
    sys.exit(0 if state is State.STORED else 1)


def _ledger() -> SqlLedger:
    return open_ledger(read_settings(None).ledger)


def choose_held(found: Sequence[Held], names: Sequence[str]) -> list[Held]:
    """The held requests whose fingerprints begin with the names; all where no name is given.

    Raises:
        click.BadParameter: A name is the beginning of no fingerprint, or of several.
    """
    chosen, wrong = choose(found, names)
    if wrong:
        raise click.BadParameter(
            f"{', '.join(wrong)}: not the beginning of exactly one held request;"
            " `flux-pipeline held list` shows them"
        )
    return chosen


def held_json(held: Sequence[Held], *, emulated: bool) -> str:
    """The requests as one line of JSON, ``{requests: [...], usd, emulated}``.

    USD are the most they cost, and no money where ``emulated`` is true.
    """
    usd = round(sum(each.usd for each in held), 6)
    requests = [_as_dict(each) for each in held]
    return json.dumps({"requests": requests, "usd": usd, "emulated": emulated})


def _as_dict(each: Held) -> dict[str, object]:
    return {
        "request": each.request_sha256,
        "prompt_set": each.attempt.intent.prompt_set,
        "prompt": each.prompt,
        "since": each.since.isoformat(timespec="seconds"),
        "usd": round(each.usd, 6),
        "reason": each.attempt.error or "",
    }


def _ask(question: str, chosen: Sequence[Held], yes: bool) -> None:
    if chosen and not yes:
        click.confirm(question, abort=True, err=True)


def _report(what: str, chosen: Sequence[Held], ended: Sequence[Held], as_json: bool) -> None:
    if as_json:
        emulated = is_emulated(read_settings(None).provider)
        click.echo(held_json(ended, emulated=emulated))
    else:
        click.echo(f"{len(ended)} {what}")
    if len(ended) < len(chosen):
        click.echo(f"{len(chosen) - len(ended)} had changed meanwhile: list them again", err=True)
        sys.exit(1)
