"""`flux-pipeline prune`: lists pictures that no prompt set asks for; archives or removes them."""

import json
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flux_pipeline.cli.announcement import announce
from flux_pipeline.cli.component_project import load_sets
from flux_pipeline.cli.progress import counting
from flux_pipeline.cli.workspace import configs_option, read_settings, sets_argument
from flux_pipeline.errors import ConfigError, Problem
from flux_pipeline.prompts import ByDay, PromptSet
from flux_pipeline.settings import Settings
from flux_pipeline.text import count_noun, printable

if TYPE_CHECKING:
    from flux_pipeline.audit.prune import Found, Kept, Obsolete, Pruned, ReadWanted
    from flux_pipeline.lineage.asked import Fingerprints
    from flux_pipeline.produce.producer import Producer
    from flux_pipeline.store.base import Store

_MOST_LINES = 100
"""Pictures that are named; --json has all."""
_AGE = re.compile(r"([0-9]{1,5})([hdw])")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_SIZES = ((1e9, "GB"), (1e6, "MB"), (1e3, "KB"))


class _Age(click.ParamType[timedelta]):
    """A time such as ``30d``."""

    name = "age"

    def convert(self, value: Any, param: Any, ctx: Any) -> timedelta:
        if isinstance(value, timedelta):
            return value
        found = _AGE.fullmatch(str(value))
        if found is None:
            self.fail(f"{printable(str(value))}: write 12h, 30d or 8w", param, ctx)
        return int(found[1]) * _UNITS[found[2]]


@click.command()
@sets_argument
@configs_option
@click.option("--older-than", type=_Age(), metavar="AGE", help="Only older ones: 12h, 30d, 8w.")
@click.option(
    "--keep",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Keep the N newest obsolete requests of each prompt.",
)
@click.option("--archive", metavar="URI", help="Copy them to this store or folder, then remove.")
@click.option("--delete", is_flag=True, help="Remove them without a copy.")
@click.option("--yes", is_flag=True, help="Ask nobody.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and no text.")
def prune(
    sets: tuple[str, ...],
    configs: Path | None,
    older_than: timedelta | None,
    keep: int,
    archive: str | None,
    delete: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """List stored pictures that no prompt set asks for any more; archive or remove them by choice.

    Without --archive or --delete nothing is changed. Kept are sources of other pictures, and what
    was chosen or published. Lineage keeps every row. Asked for again, a picture is brought back
    from its archive, or made and paid again. Exit code: 0, or 1 where something could not be
    removed.
    """
    from flux_pipeline.audit.prune import describe_running
    from flux_pipeline.audit.prune import prune as remove
    from flux_pipeline.cli.producer import open_producer

    if archive is not None and delete:
        raise click.UsageError("--archive and --delete exclude each other")
    settings = read_settings(configs)
    changes = delete or archive is not None
    known = list(load_sets(settings))
    if changes:
        announce(settings)
    with ExitStack() as stack:
        producer = stack.enter_context(open_producer(settings, reading=not changes))
        found = _find(producer, settings, known, sets, older_than or timedelta(0), keep)
        if not changes:
            click.echo(_listed_json(found) if as_json else _listed(found))
            return
        target = None if archive is None else _open_archive(archive, settings, producer.store)
        if found.running:
            click.echo(describe_running(found.running[0]), err=True)
            sys.exit(1)
        if found.obsolete and not yes:
            _ask(found, archive)
        count = stack.enter_context(counting("requests"))
        done = remove(
            producer.store,
            producer.ledger,
            found,
            now=_now,
            archive=target,
            open_archive=producer.open_archive,
            progress=count,
        )
    click.echo(_done_json(found, done) if as_json else _done(done, archive))
    sys.exit(1 if done.failed or done.stopped else 0)


def _find(
    producer: "Producer",
    settings: Settings,
    known: Sequence[PromptSet],
    names: Sequence[str],
    older_than: timedelta,
    keep: int,
) -> "Found":
    from flux_pipeline.audit.prune import find_obsolete
    from flux_pipeline.publish.protection import find_protected

    return find_obsolete(
        producer.store,
        producer.ledger,
        read_wanted=_reader(producer, known),
        reasons=find_protected(producer.store, known, settings.store_options),
        now=_now(),
        prompt_sets=names or None,
        older_than=older_than,
        keep=keep,
    )


def _reader(producer: "Producer", known: Sequence[PromptSet]) -> "ReadWanted":
    """Read what the sets ask for as their files stand; of sets by day the days that are named."""
    from flux_pipeline.lineage.asked import AskedRequests
    from flux_pipeline.produce.source_pictures import LedgerPictures

    def read(partitions: Mapping[str, Collection[str]]) -> "Fingerprints":
        noted = AskedRequests()
        for prompt_set in known:
            keys = _partitions(prompt_set, partitions.get(prompt_set.name, ()))
            pictures = LedgerPictures(producer.ledger)
            requests = prompt_set.requests(keys, pictures=pictures)
            for _, found in noted.watch([(prompt_set.name, requests)]):
                for _ in found:
                    pass
        return noted.fingerprints()

    return read


def _partitions(prompt_set: PromptSet, named: Collection[str]) -> Sequence[str] | None:
    cut = prompt_set.partitions
    if not isinstance(cut, ByDay):
        return None
    return [day for day in sorted(named) if day >= cut.start.isoformat()]


def _open_archive(uri: str, settings: Settings, store: "Store") -> "Store":
    """Open the archive, and try whether it can be written.

    Raises:
        ConfigError: It lies in the store itself, or the store in it.
        StoreError: It can't be opened or written.
    """
    from flux_pipeline.store.open import open_store

    archive = open_store(uri, settings.store_options)
    one, other = f"{archive.uri}/", f"{store.uri}/"
    if one.startswith(other) or other.startswith(one):
        message = f"{archive.uri} and the store {store.uri} lie in each other: name another place"
        raise ConfigError([Problem("--archive", 0, "", message)])
    archive.check()
    return archive


def _ask(found: "Found", archive: str | None) -> None:
    """Ask once whether to remove them.

    Raises:
        click.Abort: The answer is no.
        click.UsageError: There is no terminal to ask on.
    """
    how = f"archive in {archive} and remove" if archive else "remove for good"
    if not sys.stdin.isatty():
        raise click.UsageError(f"no terminal to ask on: --yes says to {how} {_sum(found)}")
    click.confirm(f"{how.capitalize()} {_sum(found)}?", abort=True, err=True)


def _sum(found: "Found") -> str:
    return f"{count_noun(found.files, 'picture')}, {_size(found.bytes)}"


def _size(count: int) -> str:
    for least, unit in _SIZES:
        if count >= least:
            return f"{count / least:.1f} {unit}"
    return f"{count} bytes"


def _listed(found: "Found") -> str:
    lines = [_line(each) for each in found.obsolete[:_MOST_LINES]]
    if len(found.obsolete) > _MOST_LINES:
        lines.append(f"and {len(found.obsolete) - _MOST_LINES} more; --json has all")
    lines.append(f"obsolete: {_sum(found)}")
    lines += _kept_lines(found.kept)
    if found.obsolete:
        lines.append("nothing was changed; --archive URI or --delete removes them")
    return "\n".join(lines)


def _line(each: "Obsolete") -> str:
    when = f"{each.made_at:%Y-%m-%d %H:%M}" if each.made_at else " " * 16
    where = printable(f"{each.prompt_set}/{each.prompt_name}")
    files = count_noun(len(each.uris), "file")
    return f"{when}  {each.request_sha256[:12]}  {where}  {files}, {_size(each.bytes)}"


def _kept_lines(kept: "Sequence[Kept]") -> list[str]:
    by_reason: dict[str, int] = {}
    for each in kept:
        by_reason[each.reason] = by_reason.get(each.reason, 0) + len(each.obsolete.uris)
    return [f"kept: {count_noun(n, 'picture')}: {reason}" for reason, n in by_reason.items()]


def _done(done: "Pruned", archive: str | None) -> str:
    files = sum(len(each.uris) for each in done.removed)
    size = _size(sum(each.bytes for each in done.removed))
    kept = f", archived in {archive}" if archive else ""
    lines = [f"{count_noun(files, 'picture')} removed, {size}{kept}"]
    if done.settled:
        settled = count_noun(done.settled, "request")
        lines.append(f"{settled}: an earlier prune was killed while it removed them; ended now")
    lines += _kept_lines(done.kept)
    lines += [f"not removed: {sha[:12]}: {printable(why)}" for sha, why in done.failed.items()]
    if done.stopped:
        lines.append(f"stopped: {done.stopped}")
    return "\n".join(lines)


def _listed_json(found: "Found") -> str:
    return json.dumps({"files": found.files, "bytes": found.bytes, **_lists(found)})


def _lists(found: "Found") -> dict[str, Any]:
    kept = [_as_json(each.obsolete) | {"reason": each.reason} for each in found.kept]
    return {"obsolete": [_as_json(each) for each in found.obsolete], "kept": kept}


def _done_json(found: "Found", done: "Pruned") -> str:
    kept = [_as_json(each.obsolete) | {"reason": each.reason} for each in [*found.kept, *done.kept]]
    return json.dumps(
        {
            "ok": not done.failed and not done.stopped,
            "files": sum(len(each.uris) for each in done.removed),
            "bytes": sum(each.bytes for each in done.removed),
            "archived": done.archived,
            "settled": done.settled,
            "removed": [_as_json(each) for each in done.removed],
            "kept": kept,
            "failed": done.failed,
            "stopped": done.stopped,
        }
    )


def _as_json(each: "Obsolete") -> dict[str, Any]:
    return {
        "request_sha256": each.request_sha256,
        "set": each.prompt_set,
        "prompt": each.prompt_name,
        "partition": each.partition,
        "made_at": each.made_at.isoformat() if each.made_at else None,
        "bytes": each.bytes,
        "uris": list(each.uris),
    }


def _now() -> datetime:
    return datetime.now(UTC)
