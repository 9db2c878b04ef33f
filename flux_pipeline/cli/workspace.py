"""Settings, prompt sets and partitions from the arguments of a command."""

import os
import shlex
import stat
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import click

from flux_pipeline.cli.component_project import (
    find_component_project,
    load_sets,
    place_of_sets,
    read_process_settings,
)
from flux_pipeline.errors import ConfigError, Problem
from flux_pipeline.models import Catalog, Model
from flux_pipeline.prompts import ByDay, PromptSet
from flux_pipeline.prompts.schema import parse_day
from flux_pipeline.settings import HOME_VARIABLE, Settings
from flux_pipeline.text import printable

_INSTANCE = """\
telemetry: {enabled: false}
nux: {enabled: false}
storage: {custom: {module: flux_pipeline.defs.history, class: SqliteHistory}}
"""
"""The dagster.yaml of a folder that has none."""
_Command = TypeVar("_Command", bound=Callable[..., Any])


def read_settings(configs: Path | None) -> Settings:
    """Read the settings from the environment; ``--configs`` overrides FLUX_CONFIGS.

    It is written back to the environment, because Dagster's definitions read it from there.
    """
    if configs is not None:
        os.environ["FLUX_CONFIGS"] = str(configs)
    return read_process_settings()


def choose_sets(settings: Settings, names: Sequence[str]) -> Sequence[PromptSet]:
    """The prompt sets of these names, in their order; all where no name is given.

    They are the files of the folder of FLUX_CONFIGS, or the components of the project.

    Raises:
        ConfigError: With every mistake in every file.
        click.BadParameter: For a name that no file has.
    """
    known = {prompt_set.name: prompt_set for prompt_set in load_sets(settings)}
    missing = [name for name in names if name not in known]
    if missing:
        raise click.BadParameter(
            f"{place_of_sets(settings)} has no prompt set {', '.join(missing)};"
            f" it has {', '.join(known) or 'none'}"
        )
    return [known[name] for name in dict.fromkeys(names)] if names else list(known.values())


@dataclass(frozen=True, slots=True)
class PartitionChoice:
    """The partitions that the arguments of a command name; without any, the usual ones."""

    keys: tuple[str, ...] = ()
    first_day: str | None = None
    last_day: str | None = None

    @property
    def is_made(self) -> bool:
        """Whether the arguments name any."""
        return bool(self.keys or self.first_day or self.last_day)


sets_argument = click.argument("sets", nargs=-1, metavar="[SET]...")
"""The prompt sets that a command is about, which it takes as ``sets``; see ``choose_sets``."""
configs_option = click.option(
    "--configs", type=click.Path(path_type=Path), help="Folder of prompt sets. [FLUX_CONFIGS]"
)
"""Where they are, which a command takes as ``configs``; see ``read_settings``."""


def partition_options(command: _Command) -> _Command:
    """Add --partition, --from and --to, which ``PartitionChoice`` holds.

    The command takes them as ``partition``, ``first_day`` and ``last_day``.
    """
    options = (
        click.option(
            "--partition",
            multiple=True,
            metavar="KEY",
            help="One partition: a prompt, a shard or a day; several times for several.",
        ),
        click.option("--from", "first_day", metavar="DAY", help="Days from this one on."),
        click.option("--to", "last_day", metavar="DAY", help="Days up to this one and with it."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def find_model(catalog: Catalog, name: str) -> Model:
    """The model of that name.

    Raises:
        click.BadParameter: There is none; says what is near.
        ConfigError: Its file is wrong.
    """
    try:
        return catalog.find(name)
    except KeyError as error:
        raise click.BadParameter(f"{name}: {error.args[0]}") from None


def choose_partitions(
    prompt_set: PromptSet, choice: PartitionChoice | None = None
) -> Sequence[str] | None:
    """The partitions of a set that are meant, each once and in order; None for all.

    Without a choice that is today's where the set is by day, else all.

    Raises:
        click.BadParameter: The set has no such partition, or its day has not begun.
    """
    choice = choice or PartitionChoice()
    if isinstance(prompt_set.partitions, ByDay):
        return _choose_days(prompt_set.name, prompt_set.partitions, choice)
    if choice.first_day or choice.last_day:
        raise click.BadParameter(
            f"{prompt_set.name} is not made by day: --from and --to are for sets with"
            " partitions by day"
        )
    if not choice.keys:
        return None
    known = prompt_set.partition_keys()
    missing = [key for key in choice.keys if key not in known]
    if missing:
        raise click.BadParameter(f"{prompt_set.name} has no partition {', '.join(missing)}")
    return list(dict.fromkeys(choice.keys))


def _choose_days(name: str, by_day: ByDay, choice: PartitionChoice) -> Sequence[str]:
    today = datetime.now(ZoneInfo(by_day.timezone)).date()
    if not choice.is_made:
        return [today.isoformat()]
    days = {_begun_day(name, by_day, key, today) for key in choice.keys}
    if choice.first_day or choice.last_day:
        first = _begun_day(name, by_day, choice.first_day or by_day.start.isoformat(), today)
        last = _begun_day(name, by_day, choice.last_day or today.isoformat(), today)
        if first > last:
            raise click.BadParameter(f"--from {first} is after --to {last}")
        days |= {first + timedelta(number) for number in range((last - first).days + 1)}
    return [day.isoformat() for day in sorted(days)]


def _begun_day(name: str, by_day: ByDay, text: str, today: date) -> date:
    try:
        day = parse_day(text)
    except ValueError as error:
        raise click.BadParameter(f"{printable(text)}: {error}") from None
    if day > today:
        raise click.BadParameter(
            f"{name} can't be made for {day}: that day has not begun, today is {today} in"
            f" {by_day.timezone}"
        )
    if day < by_day.start:
        raise click.BadParameter(f"{name} begins on {by_day.start}: {day} is before that")
    return day


def all_partitions(prompt_set: PromptSet) -> Sequence[str] | None:
    """Every partition that has begun: the days up to today where the set is by day, else None."""
    cut = prompt_set.partitions
    if not isinstance(cut, ByDay):
        return None
    today = datetime.now(ZoneInfo(cut.timezone)).date()
    return [
        (cut.start + timedelta(days)).isoformat() for days in range((today - cut.start).days + 1)
    ]


def say_warnings(prompt_set: PromptSet) -> None:
    """Print what is allowed but perhaps not meant; a large table's comes with its requests."""
    if prompt_set.is_checked:
        for problem in prompt_set.warnings:
            say_warning(problem)


def say_warning(problem: Problem) -> None:
    """Print one warning on standard error."""
    click.echo(f"warning: {printable(str(problem))}", err=True)


def dagster_home() -> Path:
    """The folder in which Dagster keeps its runs: that of ``dagster dev`` started here.

    DAGSTER_HOME means what it means to Dagster: ``~`` is the user's home, and a folder that is
    relative or not there is refused. Call it after ``read_settings``, which cleans the variable.

    Raises:
        ConfigError: The folder that is given is refused, or the one that isn't can't be made.
    """
    if given := os.environ.get(HOME_VARIABLE):
        home = Path(given)
        with suppress(RuntimeError):  # ~somebody who isn't known
            home = home.expanduser()
        if mistake := _find_home_mistake(home):
            raise ConfigError([Problem("environment", 0, HOME_VARIABLE, mistake)])
        return home
    if Path("dagster.yaml").exists():
        return Path.cwd()
    home = Path("data/dagster").resolve()
    try:
        home.mkdir(parents=True, exist_ok=True)
        if not (home / "dagster.yaml").exists():
            unfinished = home / f"dagster.yaml.{os.getpid()}"  # others start at the same time
            unfinished.write_text(_INSTANCE)
            unfinished.replace(home / "dagster.yaml")
    except OSError as error:
        message = f"can't be written ({error.strerror}): make room there, or set DAGSTER_HOME"
        raise ConfigError([Problem(str(home), 0, "", message)]) from error
    return home


def ui_command(settings: Settings) -> str:
    """The command that opens Dagster on the runs of this folder; it works as it is typed."""
    at = f"  # {settings.ui_url}"
    makefile = Path("Makefile")
    if os.environ.get("MAKELEVEL") and makefile.is_file() and "\nui:" in makefile.read_text():
        return f"make ui{at}"
    home = dagster_home()
    given = f"{HOME_VARIABLE}={shlex.quote(str(home))} " if home != Path.cwd() else ""
    program = f"{shlex.quote(sys.executable)} -m dagster dev"
    if find_component_project() is not None:
        command = "dg dev"
    elif Path("workspace.yaml").exists():
        command = program
    else:
        command = f"{program} -m flux_pipeline.definitions"
    if find_spec("dagster_webserver") is None:
        command = f"{shlex.quote(sys.executable)} -m pip install 'flux-pipeline[ui]' && {command}"
    return f"{given}{command}{at}"


def _find_home_mistake(home: Path) -> str:
    """Why Dagster would refuse this folder, and what to do; empty where it would not."""
    if not home.is_absolute():
        return f"is relative ({home}), which Dagster refuses: write the whole path"
    try:
        mode = home.stat().st_mode
    except OSError as error:
        return (
            f"names {home}, which can't be used ({error.strerror}) and which Dagster does not make:"
            f" mkdir -p {shlex.quote(str(home))}, or name another folder"
        )
    return "" if stat.S_ISDIR(mode) else f"names {home}, which is no folder: name another one"
