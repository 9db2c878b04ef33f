"""Held requests as they are named on the command line, and as JSON."""

import json
from collections.abc import Sequence

import click

from flux_pipeline.audit.held import Held, choose


def choose_held(found: Sequence[Held], names: Sequence[str]) -> list[Held]:
    """The held requests that begin with the names, or all where no name is given.

    Raises:
        click.BadParameter: For a name that is the beginning of none, or of several.
    """
    chosen, wrong = choose(found, names)
    if wrong:
        raise click.BadParameter(
            f"{', '.join(wrong)}: not the beginning of exactly one held request;"
            " `flux-pipeline held list` shows them"
        )
    return chosen


def held_json(held: Sequence[Held]) -> str:
    """``{requests: [...], usd}`` on one line; USD at most, by estimate."""
    usd = round(sum(each.usd for each in held), 6)
    return json.dumps({"requests": [_described(each) for each in held], "usd": usd})


def _described(each: Held) -> dict[str, object]:
    return {
        "request": each.request_sha256,
        "prompt_set": each.attempt.intent.prompt_set,
        "prompt": each.prompt,
        "since": each.since.isoformat(timespec="seconds"),
        "usd": round(each.usd, 6),
        "reason": each.attempt.error or "",
    }
