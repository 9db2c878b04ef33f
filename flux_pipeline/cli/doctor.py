"""`flux-pipeline doctor`: looks at everything that a run needs, and says what to do where it fails.

Each check is a function below that yields findings. Nothing is sent that is paid for: the provider
is asked for its list, and the store gets a probe object, which is removed again.
"""

import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

from flux_pipeline.errors import ConfigError, FluxPipelineError, Problem
from flux_pipeline.settings import EMULATOR, LEDGER_VARIABLE, Settings

_SKEW = 60.0
"""Seconds by which a clock may differ; S3 refuses signatures that are fifteen minutes off."""
_SKEW_REFUSED = 900.0
_LOW = 2 * 2**30
"""Bytes free on a disk, below which there is a warning; the spool may take so much."""
_FULL = 100 * 2**20
_DENIED = (401, 402, 403)
_NOT_FOUND = (404, 405)
_PACKAGES = ("flux-pipeline", "dagster", "dagster-webserver", "dagster-dg-cli")


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, and what to do about it."""

    check: str
    level: Level
    message: str
    todo: str = ""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and no text.")
def doctor(as_json: bool) -> None:
    """Check key, endpoint, proxy, store, ledger, clock, Dagster's home, versions and disk.

    Nothing that is paid for is sent. Exit code: 1 where something is wrong.
    """
    findings = list(examine())
    is_well = all(each.level is not Level.PROBLEM for each in findings)
    if as_json:
        checks = [asdict(each) for each in findings]
        click.echo(json.dumps({"ok": is_well, "checks": checks}))
    else:
        for each in findings:
            _print(each)
    sys.exit(0 if is_well else 1)


def examine() -> Iterator[Finding]:
    """Every finding, in the order in which they should be mended."""
    from flux_pipeline.cli.component_project import read_process_settings

    yield from check_versions()
    try:
        settings = read_process_settings()
    except ConfigError as error:
        for problem in error.problems:
            yield Finding("settings", Level.PROBLEM, str(problem), "correct it there")
        return
    checks = (
        check_env_file,
        check_prompt_sets,
        check_key,
        check_proxy,
        check_endpoint,
        check_store,
        check_ledger,
        check_home,
        check_disks,
    )
    for check in checks:
        yield from _guarded(check, settings)


def check_versions() -> Iterator[Finding]:
    """Python, this package, and Dagster with its web interface."""
    found = {name: _version(name) for name in _PACKAGES}
    said = ", ".join(f"{name} {number}" for name, number in found.items() if number)
    yield Finding("versions", Level.OK, f"Python {platform.python_version()}, {said}")
    ui, core = found["dagster-webserver"], found["dagster"]
    if not ui:
        todo = "pip install 'flux-pipeline[ui]', if you want to see runs"
        yield Finding("versions", Level.WARNING, "Dagster's web interface is not installed", todo)
    elif ui != core:
        message = f"dagster {core} and dagster-webserver {ui} don't belong together"
        todo = f"pip install dagster-webserver=={core}"
        yield Finding("versions", Level.PROBLEM, message, todo)


def check_env_file(_settings: Settings) -> Iterator[Finding]:
    """Which ``.env`` is read, and what it replaces."""
    from flux_pipeline.cli.announcement import read_env_file

    env_file = read_env_file()
    if not env_file.names:
        yield Finding("environment", Level.OK, "no .env file: the environment alone counts")
        return
    message = f"{env_file.path} sets {', '.join(sorted(env_file.names))}"
    yield Finding("environment", Level.OK, message)
    if env_file.replaced:
        names = ", ".join(sorted(env_file.replaced))
        todo = "take them out of the file, or out of the environment"
        message = f"the file replaces what the environment says of {names}"
        yield Finding("environment", Level.WARNING, message, todo)


def check_prompt_sets(settings: Settings) -> Iterator[Finding]:
    """Whether every prompt set loads."""
    from flux_pipeline.cli.component_project import load_sets, place_of_sets

    names = [each.name for each in load_sets(settings)]
    place = place_of_sets(settings)
    if names:
        yield Finding("prompt sets", Level.OK, f"{place}: {', '.join(names)}")
    else:
        todo = "write one there, or see `flux-pipeline init`"
        yield Finding("prompt sets", Level.WARNING, f"{place} has none", todo)


def check_key(settings: Settings) -> Iterator[Finding]:
    """Whether a provider that needs a key has one; never a character of it."""
    from flux_pipeline.cli.announcement import origin, read_env_file
    from flux_pipeline.settings import find_missing_key

    if (missing := find_missing_key(settings)) is not None:
        todo = f"put it into .env as {missing.key}=..., or FLUX_PROVIDER=emulator"
        yield Finding("key", Level.PROBLEM, f"{missing.key} {missing.message}", todo)
    elif settings.provider == EMULATOR:
        yield Finding("key", Level.OK, "the emulator needs none")
    else:
        place = origin(settings.key_variable, read_env_file())
        yield Finding("key", Level.OK, f"{settings.key_variable} is set ({place})")


def check_proxy(settings: Settings) -> Iterator[Finding]:
    """Which proxy and authorities calls use; whether they work, the endpoint shows."""
    network = settings.network
    said = f"calls go through the proxy of {settings.proxy_variable}" if network.proxy else "none"
    if network.ca_file:
        said += f"; only the authorities in {network.ca_file} are trusted"
    yield Finding("proxy", Level.OK, said)


def check_endpoint(settings: Settings) -> Iterator[Finding]:
    """Whether the provider answers and takes the key, and how its clock and ours differ."""
    from flux_pipeline.resources import ImageProducer
    from flux_pipeline.settings import find_missing_key

    if settings.provider == EMULATOR:
        message = "the embedded emulator: pictures are placeholders, and nothing is paid"
        yield Finding("endpoint", Level.OK, message)
        return
    if find_missing_key(settings) is not None:
        return
    reached = ImageProducer.with_values(settings).reach()
    where = f"{reached.url}: {reached.status or reached.error}"
    if not reached.status:
        todo = f"check FLUX_PROVIDER, the network, and the proxy ({settings.proxy_variable})"
        yield Finding("endpoint", Level.PROBLEM, where, todo)
        return
    if reached.status in _DENIED:
        todo = f"check {settings.key_variable}, and the account's credit, at the provider"
        yield Finding("endpoint", Level.PROBLEM, f"{where}: the key is not accepted", todo)
    elif reached.status in _NOT_FOUND:
        todo = "an aggregator may have none; for Replicate FLUX_PROVIDER is wrong"
        message = f"{where}: it answers and has no list, so that the key can't be tried for free"
        yield Finding("endpoint", Level.WARNING, message, todo)
    elif reached.status >= 400:  # noqa: PLR2004
        todo = "wait, and look at the provider's status page"
        yield Finding("endpoint", Level.WARNING, where, todo)
    else:
        message = f"{where} in {reached.seconds:.1f} s, and the key is accepted"
        yield Finding("endpoint", Level.OK, message)
    yield from judge_clock(reached.ahead)


def judge_clock(ahead: float | None) -> Iterator[Finding]:
    """Say how far this machine's clock is off, in seconds ahead of the provider's."""
    if ahead is None:
        yield Finding("clock", Level.OK, "not compared: the provider names no date")
    elif abs(ahead) < _SKEW:
        yield Finding("clock", Level.OK, f"within {_SKEW:.0f} s of the provider's")
    else:
        level = Level.PROBLEM if abs(ahead) >= _SKEW_REFUSED else Level.WARNING
        side = "ahead of" if ahead > 0 else "behind"
        message = f"{abs(ahead):.0f} s {side} the provider's; S3 refuses {_SKEW_REFUSED:.0f} s"
        yield Finding("clock", level, message, "set it by the network: timedatectl set-ntp true")


def check_store(settings: Settings) -> Iterator[Finding]:
    """Whether the store can be written, by a probe object that is removed again."""
    from flux_pipeline.cli.announcement import shown_store
    from flux_pipeline.store.open import open_store

    open_store(settings.store, settings.store_options).check()
    message = f"{shown_store(settings.store)}: a probe object was written and removed"
    yield Finding("store", Level.OK, message)


def check_ledger(settings: Settings) -> Iterator[Finding]:
    """Whether the ledger opens, is this provider's, and belongs to the store."""
    from flux_pipeline.audit.ownership import check_provider, describe_mismatch, describe_older
    from flux_pipeline.cli.announcement import shown_ledger
    from flux_pipeline.ledger.open import open_ledger
    from flux_pipeline.settings import is_emulated
    from flux_pipeline.store.open import open_store

    store = open_store(settings.store, settings.store_options)
    with open_ledger(settings.ledger) as ledger:
        check_provider(ledger, emulated=is_emulated(settings.provider))
        unfinished = len(ledger.unfinished())
        mismatch = describe_mismatch(ledger, store)
        older = None if mismatch else describe_older(ledger, store)
    said = shown_ledger(settings.ledger)
    if mismatch or older:
        todo = "give it its own store, or `flux-pipeline reindex` where a backup was restored"
        yield Finding("ledger", Level.PROBLEM, f"{said}: {mismatch or older}", todo)
    elif unfinished:
        todo = "`flux-pipeline run` or `rescue` goes on with them; `held` lists what is held"
        yield Finding("ledger", Level.OK, f"{said}: {unfinished} unfinished", todo)
    else:
        yield Finding("ledger", Level.OK, said)


def check_home(_settings: Settings) -> Iterator[Finding]:
    """Whether Dagster can keep its runs."""
    from flux_pipeline.cli.workspace import dagster_home
    from flux_pipeline.defs.launch import open_instance

    home = dagster_home()
    with open_instance(home):
        yield Finding("dagster home", Level.OK, str(home))


def check_disks(settings: Settings) -> Iterator[Finding]:
    """How much is free where pictures, ledger and Dagster's runs lie."""
    from flux_pipeline.cli.announcement import shown_ledger
    from flux_pipeline.endpoint import store_folder

    places = {"spool": settings.spool, "dagster home": _home_or_here()}
    scheme, _, rest = settings.store.partition(":")
    if scheme == "file":
        places["store"] = Path(store_folder(rest))
    if settings.ledger.startswith("sqlite"):
        places["ledger"] = Path(shown_ledger(settings.ledger).partition("://")[2] or ".").parent
    by_disk: dict[int, list[str]] = {}
    for name, place in places.items():
        there = next(
            each for each in (place.absolute(), *place.absolute().parents) if each.exists()
        )
        by_disk.setdefault(there.stat().st_dev, []).append(name)
        places[name] = there
    for names in by_disk.values():
        free = shutil.disk_usage(places[names[0]]).free
        message = f"{free / 2**30:.1f} GiB free for {', '.join(names)}"
        level = Level.PROBLEM if free < _FULL else Level.WARNING if free < _LOW else Level.OK
        yield Finding("disk", level, message, "" if level is Level.OK else "make room there")


def _home_or_here() -> Path:
    return Path(os.environ.get("DAGSTER_HOME") or ".").expanduser()


def _guarded(
    check: Callable[[Settings], Iterator[Finding]], settings: Settings
) -> Iterator[Finding]:
    """The findings of a check; an error of ours becomes a problem of its own."""
    name = check.__name__.removeprefix("check_").replace("_", " ")
    try:
        yield from check(settings)
    except ConfigError as error:
        for problem in error.problems:
            yield _of_problem(name, problem)
    except FluxPipelineError as error:
        todo = f"check {LEDGER_VARIABLE}" if name == "ledger" else "mend that, and ask again"
        yield Finding(name, Level.PROBLEM, str(error), todo)


def _of_problem(name: str, problem: Problem) -> Finding:
    place = f"correct {problem.key or problem.path}"
    return Finding({"home": "dagster home"}.get(name, name), Level.PROBLEM, str(problem), place)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _print(finding: Finding) -> None:
    from flux_pipeline.text import printable

    colour = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "red"}[finding.level]
    word = click.style(f"{finding.level:<8}", fg=colour)
    click.echo(f"{word} {finding.check:<13} {printable(finding.message)}")
    if finding.todo:
        click.echo(f"{'':<22} {printable(finding.todo)}")
