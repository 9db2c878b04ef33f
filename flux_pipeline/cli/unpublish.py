"""`flux-pipeline unpublish`: takes published pictures down, and notes who, when and why."""

import json
import sys
from pathlib import Path

import click

from flux_pipeline.cli.publish import open_publishing, say_waiting, user_name
from flux_pipeline.cli.workspace import choose_sets, configs_option, read_settings
from flux_pipeline.text import count_noun, printable


@click.command()
@click.argument("prompt_set", metavar="SET")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--reason", required=True, metavar="TEXT", help="Why, for the record.")
@configs_option
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
    another picture is picked. Exit code: 0, 1 where a file could not be removed, because somebody
    else has changed it since, 2 where a NAME is none of the index.
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
    taken = list(dict.fromkeys(names))
    if as_json:
        said = {"set": found.name, "taken_down": taken, "removed": report.removed, "to": report.uri}
        click.echo(json.dumps(said | {"problems": report.problems}, ensure_ascii=False))
    else:
        would = "would be " if dry_run else ""
        click.echo(
            f"{found.name}: {', '.join(taken)} {would}taken down,"
            f" {count_noun(report.removed, 'file')} {would}removed; {printable(report.index_uri)}"
        )
        for problem in report.problems:
            click.echo(f"{found.name}: {printable(problem)}", err=True)
    sys.exit(1 if report.problems else 0)
