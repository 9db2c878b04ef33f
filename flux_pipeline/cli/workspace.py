"""Settings, prompt sets and partitions from the arguments of a command."""

import os
import shlex
import stat
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import click

from flux_pipeline.errors import ConfigError, Problem
from flux_pipeline.prompts import ByDay, PromptSet, load_prompt_sets
from flux_pipeline.settings import HOME_VARIABLE, Settings
from flux_pipeline.text import printable

_INSTANCE = "telemetry: {enabled: false}\nnux: {enabled: false}\n"
"""The dagster.yaml of a folder that has none."""


def read_settings(configs: Path | None) -> Settings:
    """Read the settings from the environment; ``--configs`` overrides FLUX_CONFIGS.

    It is written back to the environment, because Dagster's definitions read it from there.
    """
    if configs is not None:
        os.environ["FLUX_CONFIGS"] = str(configs)
    return Settings.of_process(os.environ)


def choose_sets(settings: Settings, names: Sequence[str]) -> Sequence[PromptSet]:
    """The prompt sets of these names, in their order; all where no name is given.

    Raises:
        ConfigError: With every mistake in every file.
        click.BadParameter: For a name that no file has.
    """
    known = {prompt_set.name: prompt_set for prompt_set in load_prompt_sets(settings.configs)}
    missing = [name for name in names if name not in known]
    if missing:
        raise click.BadParameter(
            f"{settings.configs} has no prompt set {', '.join(missing)};"
            f" it has {', '.join(known) or 'none'}"
        )
    return [known[name] for name in dict.fromkeys(names)] if names else list(known.values())


def choose_partitions(prompt_set: PromptSet, partition: str | None) -> Sequence[str] | None:
    """The partition of ``--partition``; without it today's where the set is by day, else all."""
    if partition is not None:
        if not isinstance(prompt_set.partitions, ByDay):
            known = prompt_set.partition_keys()
            if partition not in known:
                raise click.BadParameter(f"{prompt_set.name} has no partition {partition}")
        return [partition]
    if isinstance(prompt_set.partitions, ByDay):
        zone = ZoneInfo(prompt_set.partitions.timezone)
        return [datetime.now(zone).date().isoformat()]
    return None


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
