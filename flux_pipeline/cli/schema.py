"""`flux-pipeline schema`: prints the JSON Schema of a prompt set, for editors."""

import os
from pathlib import Path

import click


@click.command()
@click.option(
    "--configs", type=click.Path(path_type=Path), help="Folder of prompt sets. [FLUX_CONFIGS]"
)
def schema(configs: Path | None) -> None:
    """Print the JSON Schema of a prompt set file, with the inputs of this folder's models."""
    from flux_pipeline.settings import Settings

    folder = configs or Settings.of_process(os.environ).configs
    click.echo(_with_models_of(folder) if _has_models(folder) else _shipped(), nl=False)


def _has_models(folder: Path) -> bool:
    return any((folder / "models").glob("*/*.yaml"))


def _shipped() -> str:
    """The schema with the models that come with this package, which is not built anew."""
    # By its path: importing the package to ask it takes four times as long as everything else.
    copy = Path(__file__).parents[1] / "prompts" / "prompt_set.schema.json"
    return copy.read_text("utf-8")


def _with_models_of(folder: Path) -> str:
    from flux_pipeline.models import Catalog
    from flux_pipeline.prompts.json_schema import json_schema, to_text

    return to_text(json_schema(Catalog.of_configs(folder)))
