"""`flux-pipeline schema`: prints the JSON Schema of a prompt set, for editors."""

import json
import os
from pathlib import Path

import click


@click.command()
@click.option(
    "--configs", type=click.Path(path_type=Path), help="Folder of prompt sets. [FLUX_CONFIGS]"
)
def schema(configs: Path | None) -> None:
    """Print the JSON Schema of a prompt set file, with the inputs of this folder's models."""
    from flux_pipeline.models import Catalog
    from flux_pipeline.prompts import json_schema
    from flux_pipeline.settings import Settings

    folder = configs or Settings.of_process(os.environ).configs
    click.echo(json.dumps(json_schema(Catalog.of_configs(folder)), indent=2, ensure_ascii=False))
