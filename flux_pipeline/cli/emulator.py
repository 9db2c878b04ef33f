"""`flux-pipeline emulator`: serves the prediction API on a port of this machine, for free."""

from pathlib import Path
from typing import Literal

import click


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8900, show_default=True, help="Port; 0 takes a free one.")
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder that keeps predictions and charges over a restart. Default: memory.",
)
@click.option(
    "--faults",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="YAML file of faults to inject, by rate and seed.",
)
@click.option("--no-list", is_flag=True, help="Offer no list of predictions, as aggregators do.")
@click.option("--list-delay", default=0.0, help="Seconds until a prediction shows in the list.")
@click.option("--latency", default=1.0, show_default=True, help="Factor on every duration.")
@click.option("--cheap", is_flag=True, help="One encoded picture for all: for benchmarks.")
@click.option(
    "--models",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of contracts, before the shipped ones: a project's models/.",
)
@click.option("--no-models", is_flag=True, help="Describe no models, as aggregators do.")
@click.option("--no-files", is_flag=True, help="Take no uploads.")
@click.option(
    "--create-routes",
    type=click.Choice(["both", "apart", "predictions", "models"]),
    default="both",
    help="How official models are created: by version and path, by path alone, or one route.",
)
@click.option(
    "--version", "versions", multiple=True, help="Serve this version or owner/name; repeatable."
)
@click.option(
    "--input-host",
    "input_hosts",
    multiple=True,
    help="Fetch input pictures from this host too; repeatable. Default: this machine alone.",
)
@click.option("--refuse-unknown", is_flag=True, help="Refuse inputs that a model doesn't know.")
def emulator(
    host: str,
    port: int,
    state: Path | None,
    faults: Path | None,
    no_list: bool,
    list_delay: float,
    latency: float,
    cheap: bool,
    models: Path | None,
    no_models: bool,
    no_files: bool,
    create_routes: Literal["both", "apart", "predictions", "models"],
    versions: tuple[str, ...],
    input_hosts: tuple[str, ...],
    refuse_unknown: bool,
) -> None:
    """Serve the prediction API on both prefixes, with a ledger of its own.

    Point a run at it with FLUX_PROVIDER=http://127.0.0.1:PORT/replicate and any FLUX_API_KEY. What
    it was sent and what it charged is at /_emulator/ledger.
    """
    from flux_pipeline.emulator.contracts import catalog_of
    from flux_pipeline.emulator.faults import load_fault_plan
    from flux_pipeline.emulator.options import EmulatorOptions
    from flux_pipeline.emulator.server import serve

    own_hosts = EmulatorOptions().input_hosts
    options = EmulatorOptions(
        list_enabled=not no_list,
        list_delay_seconds=list_delay,
        time_scale=latency,
        render="cheap" if cheap else "picture",
        models_folder="" if models is None else str(models),
        models_enabled=not no_models,
        files_enabled=not no_files,
        create_routes=create_routes,
        allowed_versions=frozenset(versions),
        input_hosts=own_hosts.union(input_hosts),
        unknown_inputs="refused" if refuse_unknown else "dropped",
    )
    try:
        catalog_of(options.models_folder).check()
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--models") from None
    plan = load_fault_plan(faults) if faults else None
    serve(host=host, port=port, state_dir=state, options=options, faults=plan)
