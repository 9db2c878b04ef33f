"""`flux-pipeline run`: materialize prompt sets through Dagster, in this process."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from flux_pipeline.cli.progress import Watch, watching
from flux_pipeline.cli.summary import print_summary, summary_json
from flux_pipeline.cli.workspace import (
    choose_partitions,
    choose_sets,
    dagster_home,
    read_settings,
)
from flux_pipeline.errors import ConfigError
from flux_pipeline.produce.observing import observing
from flux_pipeline.prompts import PromptSet
from flux_pipeline.settings import Settings, missing_key

INTERRUPTED = 130


@click.command()
@click.argument("sets", nargs=-1, metavar="[SET]...")
@click.option(
    "--configs", type=click.Path(path_type=Path), help="Folder of prompt sets. [FLUX_CONFIGS]"
)
@click.option("--partition", metavar="KEY", help="One partition: a prompt, a shard or a day.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and no table.")
def run(sets: tuple[str, ...], configs: Path | None, partition: str | None, as_json: bool) -> None:
    """Make the images of the prompt sets named, or of all.

    What was made before is not made again, and what was begun is resumed. Exit code: 0 all is
    there, 1 some images are refused, failed or held, 2 the configuration is wrong.
    """
    settings = read_settings(configs)
    if problem := missing_key(settings):
        raise ConfigError([problem])
    chosen = choose_sets(settings, sets)
    asked = {prompt_set.name: choose_partitions(prompt_set, partition) for prompt_set in chosen}
    expected = {
        prompt_set.name: sum(
            request.outputs for request in prompt_set.requests(asked[prompt_set.name])
        )
        for prompt_set in chosen
    }
    failures: dict[str, str] = {}
    interrupted = False
    with watching(expected) as watch:
        try:
            _launch(chosen, asked, watch, failures)
        except KeyboardInterrupt:  # the run was drained: what is known is worth saying
            interrupted = True
    watch.finish()
    if as_json:
        click.echo(summary_json(watch.tallies, watch.total))
    else:
        print_summary(watch, _places(settings, chosen))
    for name, reason in failures.items():
        click.echo(f"{name}: {reason}", err=True)
    if interrupted:
        sys.exit(INTERRUPTED)
    sys.exit(0 if watch.total.complete and not failures else 1)


def _launch(
    chosen: Sequence[PromptSet],
    asked: Mapping[str, Sequence[str] | None],
    watch: Watch,
    failures: dict[str, str],
) -> None:
    """Run every set, then the tables over all of them; note why a set did not end well."""
    from flux_pipeline.definitions import defs
    from flux_pipeline.defs.automation import BOOKS
    from flux_pipeline.defs.launch import launch_job, launch_set, open_instance

    definitions = defs()
    with open_instance(dagster_home()) as instance, observing(watch):
        for prompt_set in chosen:
            for run in launch_set(instance, definitions, prompt_set, asked[prompt_set.name]):
                if not run.success:
                    failures[prompt_set.name] = run.reason
        tables = launch_job(instance, definitions, BOOKS)
        if not tables.success:
            failures["lineage and spend"] = tables.reason


def _places(settings: Settings, chosen: Sequence[PromptSet]) -> Mapping[str, str]:
    from flux_pipeline.lineage.gallery import gallery_key
    from flux_pipeline.store.location import open_store

    uri = open_store(settings.store).uri
    places = {"pictures": f"{uri}/images"}
    for prompt_set in chosen:
        places[f"gallery {prompt_set.name}"] = f"{uri}/{gallery_key(prompt_set.name)}"
    return places | {
        "lineage": f"{uri}/lineage",
        "see the runs": "make ui, or dagster dev; then http://127.0.0.1:3000",
    }
