"""`flux-pipeline schema`: prints the JSON Schema of a prompt set, for editors."""

import json

import click


@click.command()
def schema() -> None:
    """Print the JSON Schema of a prompt set file."""
    from flux_pipeline.prompts import json_schema

    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
