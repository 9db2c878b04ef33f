"""What every command starts from: the settings, and the prompt sets that were named."""

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import click

from flux_pipeline.prompts import ByDay, PromptSet, load_prompt_sets
from flux_pipeline.settings import Settings

_INSTANCE = "telemetry: {enabled: false}\nnux: {enabled: false}\n"
"""For a folder without a dagster.yaml of its own."""


def read_settings(configs: Path | None) -> Settings:
    """Settings from the environment; ``--configs`` goes before FLUX_CONFIGS.

    It is written back to the environment, because Dagster's definitions read it from there.
    """
    if configs is not None:
        os.environ["FLUX_CONFIGS"] = str(configs)
    return Settings.from_environment(os.environ)


def choose_sets(settings: Settings, names: Sequence[str]) -> Sequence[PromptSet]:
    """The prompt sets named, in their order; all where none is.

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
    """The partition asked for; by day, where none is, today's; else all."""
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


def dagster_home() -> Path:
    """Where Dagster keeps its runs, as ``dagster dev`` would find it from this folder."""
    if given := os.environ.get("DAGSTER_HOME"):
        return Path(given)
    if Path("dagster.yaml").exists():
        return Path.cwd()
    home = Path("data/dagster").resolve()
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "dagster.yaml").exists():
        (home / "dagster.yaml").write_text(_INSTANCE)
    return home
