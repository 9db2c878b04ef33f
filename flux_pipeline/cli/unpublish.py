"""`flux-pipeline unpublish`: takes published pictures down, and notes who, when and why."""

import json
from pathlib import Path

import click

from flux_pipeline.cli.publish import open_publishing, say_waiting, user_name
from flux_pipeline.cli.workspace import choose_sets, read_settings
from flux_pipeline.text import printable


@click.command()
@click.argument("prompt_set", metavar="SET")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--reason", required=True, metavar="TEXT", help="Why, for the record.")
@click.option(
    "--configs", type=click.Path(path_type=Path), help="Folder of prompt sets. [FLUX_CONFIGS]"
)
@click.option("--by", metavar="NAME", help="Who does this, for the record. [this user]")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and no text.")
def unpublish(
    prompt_set: str,
    names: tuple[str, ...],
    reason: str,
    by: str | None,
    configs: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Take published pictures down: their files and their entries in the index.

    A NAME is that of the index. The pictures stay in the store and in lineage, and `trace` shows
    who took them down, when and why. They are published again by `publish --again NAME`, or when
    another picture is picked.
    """
    from flux_pipeline.publish.publisher import take_down

    if not reason.strip():
        raise click.BadParameter("say why: --reason is what is known of it later")
    settings = read_settings(configs)
    (found,) = choose_sets(settings, [prompt_set])
    report = take_down(
        found,
        names,
        reason=reason.strip(),
        by=by or user_name(),
        publishing=open_publishing(settings),
        dry_run=dry_run,
        on_wait=say_waiting,
    )
    if as_json:
        taken = {"set": found.name, "taken_down": list(dict.fromkeys(names))}
        click.echo(json.dumps(taken | {"removed": report.removed, "to": report.uri}))
        return
    would = "would be " if dry_run else ""
    click.echo(
        f"{found.name}: {', '.join(dict.fromkeys(names))} {would}taken down,"
        f" {report.removed} files {would}removed; {printable(report.index_uri)}"
    )
