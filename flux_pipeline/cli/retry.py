"""`flux-pipeline retry`: asks again for what failed or was refused."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flux_pipeline.cli.workspace import (
    all_partitions,
    choose_sets,
    configs_option,
    read_settings,
    sets_argument,
)
from flux_pipeline.errors import ConfigError
from flux_pipeline.settings import find_missing_key, is_emulated
from flux_pipeline.text import count_noun, printable, show_usd

if TYPE_CHECKING:
    from flux_pipeline.audit.retry import Retry
    from flux_pipeline.ledger.base import Ledger, State
    from flux_pipeline.prompts import PromptSet
    from flux_pipeline.request import Request

_MOST_REASONS = 10


@click.command()
@sets_argument
@configs_option
@click.option("--failed", is_flag=True, help="What failed; the default.")
@click.option("--refused", is_flag=True, help="What the provider refused.")
@click.option("--prompt", default="", metavar="NAME", help="One prompt.")
@click.option("--dry-run", is_flag=True, help="Say what would be asked again, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and no table.")
def retry(
    sets: tuple[str, ...],
    configs: Path | None,
    failed: bool,
    refused: bool,
    prompt: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Ask again for images that failed, or with --refused were refused; it is paid like a new one.

    Their partitions are run, so that anything else that is missing there is made too, within the
    budgets. Exit code: as that of `run`.
    """
    from flux_pipeline.audit.retry import allow
    from flux_pipeline.cli.run import make
    from flux_pipeline.ledger.base import State
    from flux_pipeline.ledger.open import open_ledger

    wanted = {State.FAILED: failed or not refused, State.REFUSED: refused}
    settings = read_settings(configs)
    if not dry_run and (problem := find_missing_key(settings)):
        raise ConfigError([problem])
    chosen = choose_sets(settings, sets)
    states = frozenset(state for state in wanted if wanted[state])
    with open_ledger(settings.ledger) as ledger:
        found = _find(ledger, chosen, states, prompt)
        if not dry_run:
            found = allow(ledger, found)
    emulated = is_emulated(settings.provider)
    if dry_run or not found:
        click.echo(_json(found, emulated=emulated) if as_json else _text(found, emulated=emulated))
        return
    if not as_json:
        click.echo(_text(found, emulated=emulated), err=True)
    asked: dict[str, list[str]] = {}
    for source in (each.request.source for each in found):
        asked.setdefault(source.prompt_set, []).append(source.partition)
    make(settings, [each for each in chosen if each.name in asked], asked, as_json=as_json)


def _find(
    ledger: "Ledger", chosen: "Sequence[PromptSet]", states: "frozenset[State]", prompt: str
) -> "list[Retry]":
    """The requests of all the sets whose latest attempt ended in one of the states.

    Raises:
        click.BadParameter: No set has a prompt of this name.
    """
    from flux_pipeline.audit.retry import find_retries
    from flux_pipeline.produce.source_pictures import LedgerPictures

    found: list[Retry] = []
    matching = 0

    def watched(requests: Iterable["Request"]) -> Iterator["Request"]:
        nonlocal matching
        for request in requests:
            if prompt in {"", request.source.prompt_name}:
                matching += 1
                yield request

    for prompt_set in chosen:
        pictures = LedgerPictures(ledger)
        requests = watched(prompt_set.requests(all_partitions(prompt_set), pictures=pictures))
        found += find_retries(ledger, requests, states=states)
    if prompt and not matching:
        names = ", ".join(each.name for each in chosen)
        raise click.BadParameter(f"no prompt {prompt} in {names or 'any prompt set'}")
    return found


def _text(found: "Sequence[Retry]", *, emulated: bool) -> str:
    usd = sum(each.request.cost_usd for each in found)
    lines = [
        f"{count_noun(len(found), 'request')} to ask again, {show_usd(usd, emulated=emulated)}"
    ]
    reasons = Counter(printable(each.reason) for each in found)
    lines += [f"{count} x {reason}" for reason, count in reasons.most_common(_MOST_REASONS)]
    return "\n".join(lines)


def _json(found: "Sequence[Retry]", *, emulated: bool) -> str:
    requests = [
        {
            "set": each.request.source.prompt_set,
            "prompt": each.request.source.prompt_name,
            "request": each.request.request_sha256,
            "state": each.attempt.state.value,
            "reason": each.reason,
        }
        for each in found
    ]
    usd = round(sum(each.request.cost_usd for each in found), 6)
    return json.dumps({"requests": requests, "usd": usd, "emulated": emulated})
