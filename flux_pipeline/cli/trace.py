"""`flux-pipeline trace`: finds the record of a picture, or the pictures of a prompt, set or run."""

import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

import click

from flux_pipeline.cli.component_project import read_process_settings
from flux_pipeline.settings import Settings
from flux_pipeline.text import printable, shorten, show_usd

if TYPE_CHECKING:
    from flux_pipeline.lineage.query import Snapshot
    from flux_pipeline.lineage.record import ImageRecord
    from flux_pipeline.provenance.sources import SourceImage
    from flux_pipeline.provenance.trace import Answer
    from flux_pipeline.store.base import Store

_EMULATED = "emulator"
_PROMPT = 60
_SAID = {
    "c2pa": "the label in its signed manifest",
    "xmp": "the label in its XMP packet",
    "pixels": "the coded pixels, which are the same bit for bit",
    "similar": "its looks: a difference hash, which proves nothing",
    "id": "the id",
}


@click.command()
@click.argument("target", required=False, metavar="[FILE|URI|ID]")
@click.option("--prompt", metavar="TEXT", help="List the images whose prompt contains this.")
@click.option("--set", "prompt_set", metavar="NAME", help="List the images of a prompt set.")
@click.option("--run", "run_id", metavar="ID", help="List the images that a run paid for.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Lines of a list."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, and no text.")
def trace(
    target: str | None,
    prompt: str | None,
    prompt_set: str | None,
    run_id: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Say where a picture comes from: by its label, its pixels or its looks.

    URI: file:, s3:, or a key in the store. ID: of a prediction or run, or the hash of a request, an
    image or a file, or at least 8 characters of its beginning. Nothing is sent or written. Exit
    code: 0, or 1 where it is not known.
    """
    without_pandas()
    wanted = {"prompt": prompt, "prompt_set": prompt_set, "run_id": run_id}
    asked = {name: value for name, value in wanted.items() if value is not None}
    if (target is None) == (not asked):
        raise click.UsageError("give one of: FILE, URI or ID; or --prompt, --set, --run")
    if target is not None:
        _trace_target(target, as_json=as_json)
    else:
        _list_images(asked, limit, as_json=as_json)


def _trace_target(target: str, *, as_json: bool) -> None:
    from flux_pipeline.provenance.sources import trace_sources
    from flux_pipeline.provenance.trace import answer_to

    store, snapshot = open_table()
    options = Settings.of_process(os.environ).store_options
    answer, why = answer_to(store, snapshot, target, options=options)
    record = answer.record if answer else None
    sources = trace_sources(snapshot, record) if record else ()
    current = is_current(store, answer.values) if answer else None
    events = _publishing_events(store, answer.values) if answer else []
    if as_json:
        more = {"current": current, "publishing": events}
        click.echo(json.dumps(_described(answer, why, sources) | more))
    elif answer is None:
        click.echo(f"not known: {printable(target)}: {printable(why)}", err=True)
    else:
        _print(answer, sources, current, events)
    sys.exit(0 if answer else 1)


def _publishing_events(store: "Store", row: dict[str, Any]) -> list[dict[str, str]]:
    """When a picture was taken down, or was allowed again: by whom and why."""
    from dataclasses import asdict

    from flux_pipeline.publish.taken_down import read_taken_down

    if not row["request_sha256"] or not row["prompt_set"]:
        return []
    named = (str(row["prompt_set"]), str(row["request_sha256"]), int(row["output_index"] or 0))
    found = read_taken_down(store, *named)
    return [asdict(event) for event in found.events] if found else []


def _described(
    answer: "Answer | None", why: str, sources: "Sequence[SourceImage]"
) -> dict[str, Any]:
    from flux_pipeline.provenance.sources import describe_source

    if answer is None:
        nothing = dict.fromkeys(("answered_by", "certainty", "distance", "record", "command"))
        return nothing | {"sources": [], "notes": [why]}
    return {
        "answered_by": answer.answered_by,
        "certainty": answer.certainty,
        "distance": answer.distance,
        "record": answer.values,
        "sources": [describe_source(each) for each in sources],
        "command": _command(answer),
        "notes": answer.notes,
    }


def _command(answer: "Answer") -> str | None:
    request = answer.reproducible
    return None if request is None else shlex.join(["flux-pipeline", "reproduce", request])


def is_current(store: "Store", row: dict[str, Any]) -> bool | None:
    """Whether a prompt set asked for a picture when it was read last; None where nobody knows."""
    from flux_pipeline.lineage.asked import read_asked

    if not row["request_sha256"]:
        return None
    named = ([str(row[name] or "")] for name in ("request_sha256", "prompt_set", "partition"))
    return read_asked(store).are_current(*named)[0]


def _print(
    answer: "Answer",
    sources: "Sequence[SourceImage]",
    current: bool | None,
    events: Sequence[dict[str, str]],
) -> None:
    row = answer.values
    looks = f", {answer.distance} of 64 bits differ" if answer.distance else ""
    click.echo(f"answered by  {_SAID[answer.answered_by]}; {answer.certainty}{looks}")
    for note in answer.notes:
        click.echo(f"note         {printable(note)}")
    if current is not None:
        said = "yes" if current else "no: made of an earlier text; its prompt set asks for another"
        click.echo(f"current      {said}")
    for event in events:
        why = f": {event['reason']}" if event["reason"] else ""
        said = f"{event['action']} {event['at']} by {event['by']}{why}"
        click.echo(f"{'publishing':<13}{printable(said)}")
    for name, value in _lines(row):
        click.echo(f"{name:<13}{printable(value)}")
    for line in _source_lines(sources):
        click.echo(f"{'made from':<13}{printable(line)}")
    click.echo(f"make again   {_command(answer) or 'not from this'}")


def _source_lines(sources: "Sequence[SourceImage]", indent: str = "") -> Iterator[str]:
    """A line for each picture that went in, and below it those that went into that one."""
    for each in sources:
        row = each.record
        where = (
            f"{row.prompt_set} / {row.prompt_name}, request {row.request_sha256[:12]}, {row.uri}"
            if row
            else "a file that was not made here"
        )
        yield f"{indent}{each.input}: {where} (sha256 {each.sha256[:12]})"
        yield from _source_lines(each.sources, f"{indent}  ")


def _lines(row: dict[str, Any]) -> Sequence[tuple[str, str]]:
    """The columns that people ask for first; --json has every one."""
    width, height, size = (row[name] for name in ("width", "height", "bytes"))
    shape = f"{width} x {height} px, " if width and height else ""
    cost, emulated = row["cost_usd"], row["provider"] == _EMULATED
    return [
        ("status", " ".join(filter(None, [str(row["status"] or "unknown"), row["error"]]))),
        ("prompt", _or_not(row["prompt"])),
        ("parameters", _parameters(row["input"])),
        ("seed", f"{_or_not(row['seed'])} ({_or_not(row['seed_source'])})"),
        ("model", f"{_or_not(row['model'])}:{_or_not(row['version'])}"),
        ("served by", f"{_or_not(row['provider'])}, version {_or_not(row['served_version'])}"),
        ("prediction", f"{_or_not(row['prediction_id'])}, output {_or_not(row['output_index'])}"),
        ("request", _or_not(row["request_sha256"])),
        ("from", " / ".join(filter(None, _source(row)))),
        ("run", f"{_or_not(row['run_id'])}, {_or_not(row['completed_at'])}"),
        ("config", f"{_or_not(row['config_path'])}, sha256 {_or_not(row['config_sha256'])}"),
        ("commit", _or_not(row["code_version"])),
        ("cost", "unknown" if cost is None else f"{show_usd(cost, emulated=emulated)}, estimated"),
        *_removal(row),
        ("original", f"{_or_not(row['uri'])} ({shape}{_or_not(size)} bytes)"),
        ("credentials", _or_not(row["credentials"])),
    ]


def _removal(row: dict[str, Any]) -> Sequence[tuple[str, str]]:
    if not row["removed_at"]:
        return []
    copy = row["archived_uri"]
    return [("removed", f"{row['removed_at']}, {f'a copy lies at {copy}' if copy else 'for good'}")]


def _source(row: dict[str, Any]) -> Sequence[str]:
    take = f"take {row['take']}" if row["take"] else ""
    return [str(row[name] or "") for name in ("prompt_set", "prompt_name", "partition")] + [take]


def _or_not(value: object) -> str:
    return "unknown" if value in {None, ""} else str(value)


def _parameters(text: object) -> str:
    try:
        found = json.loads(str(text or "{}"))
    except ValueError:
        return "unreadable"
    if not isinstance(found, dict):
        return "unreadable"
    left = {name: value for name, value in found.items() if name not in {"prompt", "seed"}}
    return ", ".join(f"{name} {value}" for name, value in sorted(left.items())) or "the defaults"


def _list_images(asked: dict[str, str], limit: int, *, as_json: bool) -> None:
    from flux_pipeline.lineage.asked import read_asked
    from flux_pipeline.lineage.query import find_all
    from flux_pipeline.lineage.record import record_values

    store, snapshot = open_table()
    found = find_all(snapshot, **asked, limit=limit + 1)
    shown = found[:limit]
    current = read_asked(store).are_current(
        (record.request_sha256 for record in shown),
        (record.prompt_set for record in shown),
        (record.partition for record in shown),
    )
    if as_json:
        listed = zip(shown, current, strict=True)
        click.echo(
            json.dumps([record_values(record) | {"current": each} for record, each in listed])
        )
    else:
        for record, each in zip(shown, current, strict=True):
            click.echo(f"{_line(record)}{'  (of an earlier text)' if each is False else ''}")
        if len(found) > limit:
            click.echo(f"and more: --limit shows more than {limit}", err=True)
        if not found:
            click.echo("none", err=True)
    sys.exit(0 if found else 1)


def _line(record: "ImageRecord") -> str:
    when = record.stored_at or record.completed_at or record.requested_at
    day = f"{when:%Y-%m-%d %H:%M}" if when else " " * 16
    prompt = printable(shorten(record.prompt, _PROMPT))
    where = printable(f"{record.prompt_set}/{record.prompt_name}")
    ids = printable(f"{record.prediction_id or record.request_sha256[:12]}:{record.output_index}")
    return f"{day}  {record.status:<7}  {ids:<28}  {record.seed or '':>10}  {where}  {prompt}"


class _WithoutPandas(MetaPathFinder):
    """Hides pandas: pyarrow imports it to look at its types, which takes longer than a search."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Refuse pandas; leave everything else to the other finders."""
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is not needed here", name=fullname)
        return None


def without_pandas() -> None:
    """Keep pandas out of this process, for commands that must be fast and don't need it."""
    sys.meta_path.insert(0, _WithoutPandas())


def open_table() -> "tuple[Store, Snapshot]":
    """Open the store of the settings, and its lineage table.

    Raises:
        ConfigError, StoreError: As ``Settings.from_environment``, ``open_store``.
    """
    from flux_pipeline.lineage.query import open_snapshot
    from flux_pipeline.store.open import open_store

    settings = read_process_settings()
    store = open_store(settings.store, settings.store_options)
    if next(iter(store.list("lineage/")), None) is None:
        click.echo(
            f"there is no lineage table in {store.uri}: run this in the folder of your project, or"
            " set FLUX_STORE; in a new project the first run makes the table",
            err=True,
        )
    return store, open_snapshot(store)
