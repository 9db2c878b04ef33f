"""`flux-pipeline retry`: asks again for what failed or was refused."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flux_pipeline.cli.workspace import choose_sets, read_settings
from flux_pipeline.text import count_noun, printable

if TYPE_CHECKING:
    from flux_pipeline.audit.retry import Retry

_MOST_REASONS = 10


@click.command()
@click.argument("sets", nargs=-1, metavar="[SET]...")
@click.option(
    "--configs", type=click.Path(path_type=Path), help="Folder of prompt sets. [FLUX_CONFIGS]"
)
@click.option("--failed", is_flag=True, help="What failed; the default.")
@click.option("--refused", is_flag=True, help="What the provider refused.")
@click.option("--prompt", default="", metavar="NAME", help="One prompt.")
@click.option("--dry-run", is_flag=True, help="Say what would be asked again, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and no table.")
@click.pass_context
def retry(
    context: click.Context,
    sets: tuple[str, ...],
    configs: Path | None,
    failed: bool,
    refused: bool,
    prompt: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Ask again for images that failed, or with --refused were refused; it is paid like a new one.

    Each of them is asked for once, within the budgets. Exit code: as that of `run`.
    """
    from flux_pipeline.audit.retry import allow, find_retries
    from flux_pipeline.cli.run import run
    from flux_pipeline.ledger.base import State
    from flux_pipeline.ledger.open import open_ledger

    states = frozenset(
        state
        for state, wanted in ((State.FAILED, failed or not refused), (State.REFUSED, refused))
        if wanted
    )
    settings = read_settings(configs)
    found: list[Retry] = []
    with open_ledger(settings.ledger) as ledger:
        for prompt_set in choose_sets(settings, sets):
            found += find_retries(ledger, prompt_set.requests(), states=states, prompt=prompt)
        if not dry_run:
            found = allow(ledger, found)
    if dry_run or not found:
        click.echo(_json(found) if as_json else _text(found))
        return
    if not as_json:
        click.echo(_text(found), err=True)
    names = tuple(dict.fromkeys(each.request.source.prompt_set for each in found))
    context.invoke(run, sets=names, configs=configs, partition=None, as_json=as_json)


def _text(found: "Sequence[Retry]") -> str:
    usd = sum(each.request.cost_usd for each in found)
    lines = [f"{count_noun(len(found), 'request')} to ask again, {usd:.4f} USD"]
    reasons = Counter(printable(each.reason) for each in found)
    lines += [f"{count} x {reason}" for reason, count in reasons.most_common(_MOST_REASONS)]
    return "\n".join(lines)


def _json(found: "Sequence[Retry]") -> str:
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
    return json.dumps({"requests": requests, "usd": usd})
