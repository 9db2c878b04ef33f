"""Loads the definitions of a Dagster project with components, for commands outside of Dagster."""

import importlib
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import dagster as dg

from flux_pipeline.defs.build import IMAGE_PRODUCER
from flux_pipeline.defs.components import errors_of_components
from flux_pipeline.errors import ConfigError, Problem
from flux_pipeline.network import CA_VARIABLES, NO_PROXY_VARIABLES, PROXY_VARIABLES
from flux_pipeline.project import DgFolder
from flux_pipeline.resources import ImageProducer
from flux_pipeline.settings import KEY_VARIABLES, LEDGER_VARIABLE

_FIELDS: Mapping[str, str] = {
    "FLUX_PROVIDER": "provider",
    KEY_VARIABLES[0]: "api_key",
    "FLUX_ROUTE": "route",
    "FLUX_MODELS": "models",
    "FLUX_INPUT_FILES": "input_files",
    "FLUX_HAS_FILES": "has_files",
    "FLUX_STORE": "store",
    LEDGER_VARIABLE: "ledger",
    "FLUX_STATE": "state",
    "FLUX_RATE": "creates_per_minute",
    "FLUX_CONCURRENCY": "concurrency",
    "FLUX_UNKNOWN": "unknown",
    "FLUX_SETTLE_SECONDS": "settle_seconds",
    "FLUX_OUTPUT_HOSTS": "output_hosts",
    "FLUX_OUTPUT_NETWORKS": "output_networks",
    "FLUX_SPOOL": "spool",
    "FLUX_BUDGET_USD_PER_DAY": "usd_per_day",
    "FLUX_EMBED_PROMPT": "embed_prompt",
    "FLUX_AIGC_PRODUCER": "aigc_producer",
    "FLUX_C2PA_CERT": "c2pa_cert",
    "FLUX_C2PA_KEY": "c2pa_key",
    "FLUX_C2PA_TSA": "c2pa_tsa",
    PROXY_VARIABLES[0]: "proxy",
    NO_PROXY_VARIABLES[0]: "no_proxy",
    CA_VARIABLES[0]: "ca_file",
}
"""By variable the field of ``ImageProducer`` that it stands for."""
_OPTIONS = ("FLUX_STORE_WRITERS", "FLUX_S3_%s")


def load_definitions(project: DgFolder) -> dg.Definitions:
    """The project's definitions, for runs in this process: steps don't run in others.

    They are what its definitions module holds, as for `dg`, or else its folder of components.

    Raises:
        ConfigError: They can't be loaded; with everything that is wrong.
    """
    with errors_of_components(project.root):
        found = _find_definitions(project)
    return dg.Definitions(
        assets=found.assets,
        asset_checks=found.asset_checks,
        jobs=found.jobs,
        resources=found.resources,
        loggers=found.loggers,
        executor=dg.in_process_executor,
    )


def read_variables(project: DgFolder) -> Mapping[str, str]:
    """The fields of the project's own resource ``image_producer``, as the FLUX_* variables.

    An ``EnvVar`` is read here; one that is not set is empty.

    Raises:
        ConfigError: The definitions can't be loaded, or have no such resource.
    """
    producer = (load_definitions(project).resources or {}).get(IMAGE_PRODUCER)
    if not isinstance(producer, ImageProducer):
        message = (
            f"has no resource {IMAGE_PRODUCER} that is an ImageProducer: add a component"
            " flux_pipeline.SharedAssets, which makes it of the FLUX_* variables, or define one"
        )
        raise ConfigError([Problem(str(project.root), 0, "", message)])
    options = {
        _OPTIONS[0] if name == "writers" else _OPTIONS[1] % name.upper(): value
        for name, value in producer.store_options.items()
    }
    fields = {variable: _written(getattr(producer, name)) for variable, name in _FIELDS.items()}
    # What is empty is left to the environment only where nothing else could be meant.
    return {name: text for name, text in (fields | options).items() if text}


def _written(value: Any) -> str:
    """A field's value as it stands in a variable."""
    match value:
        case dg.EnvVar():
            return value.get_value() or ""
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case list():
            return ",".join(value)
        case float():
            return f"{value:g}"
    return str(value)


def _find_definitions(project: DgFolder) -> dg.Definitions:
    if find_spec(project.definitions_module) is not None:
        module = importlib.import_module(project.definitions_module)
        for value in vars(module).values():
            if isinstance(value, dg.Definitions):
                return value
            # What ``@dg.definitions`` makes, whose class is not public.
            if callable(value) and hasattr(value, "load_fn"):
                made = value()
                if isinstance(made, dg.Definitions):
                    return made
    return dg.load_from_defs_folder(path_within_project=project.root)
