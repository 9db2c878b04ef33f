"""`flux-pipeline verify`: compares provider, ledger, store and lineage with each other."""

import json
import sys
from pathlib import Path

import click

from flux_pipeline.audit.findings import Kind, Verification, read_acknowledged, set_aside
from flux_pipeline.cli.producer import open_producer
from flux_pipeline.cli.progress import counting
from flux_pipeline.cli.workspace import read_settings
from flux_pipeline.text import count_noun

_MOST_LINES = 100
"""Findings of one kind that are printed; --json has all."""


@click.command()
@click.option("--deep", is_flag=True, help="Read and decode every image, and compare its hashes.")
@click.option(
    "--known",
    type=click.Path(path_type=Path),
    help="File of findings that you have looked into, a line each as printed: they don't count.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and no text.")
def verify(deep: bool, known: Path | None, as_json: bool) -> None:
    """Find what was paid and is not there, paid twice, orphaned, broken or held.

    Nothing is written. Exit code: 0 only if the provider's list (where it has one), the ledger, the
    store and the lineage table all agree, otherwise 1.
    """
    from flux_pipeline.audit.verify import verify as compare

    listed = {} if known is None else read_acknowledged(known)
    opened = open_producer(read_settings(None), reading=True)
    with opened as producer, counting("images read") as count:
        result = compare(producer, deep=deep, progress=count)
    if known is not None:
        set_aside(result, listed, path=known, deep=deep)
    click.echo(verification_json(result) if as_json else verification_text(result))
    sys.exit(0 if result.ok else 1)


def verification_json(result: Verification) -> str:
    """The result as one line of JSON."""
    lists = {kind.value: result.ids(kind) for kind in Kind}
    lists |= {"known": [each.id for each in result.acknowledged]} if result.acknowledged else {}
    return json.dumps({"ok": result.ok, "images": result.images, **lists, "notes": result.notes})


def verification_text(result: Verification) -> str:
    """A line for each finding and note, and the verdict as the last one."""
    lines = []
    for kind in Kind:
        found = [each for each in result.findings if each.kind is kind]
        lines += [f"{kind.value} {each.id}: {each.message}" for each in found[:_MOST_LINES]]
        if len(found) > _MOST_LINES:
            lines.append(f"{kind.value}: and {len(found) - _MOST_LINES} more; --json has all")
    lines += [f"note: {note}" for note in result.notes]
    verdict = "all agree" if result.ok else count_noun(len(result.findings), "finding")
    if result.acknowledged:
        verdict += f" but for {count_noun(len(result.acknowledged), 'known finding')}"
    if not result.complete:
        verdict += ", and not everything could be compared"
    return "\n".join([*lines, f"{count_noun(result.images, 'image')}, {verdict}"])
