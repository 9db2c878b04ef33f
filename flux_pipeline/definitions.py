"""What Dagster loads; beside the command line the only reader of the environment."""

import os

import dagster as dg

from flux_pipeline.defs.build import build_definitions
from flux_pipeline.prompts import load_prompt_sets
from flux_pipeline.resources import AlertSender, ImageProducer
from flux_pipeline.settings import Settings


@dg.definitions
def defs() -> dg.Definitions:
    """Build the definitions of every prompt set in the folder of FLUX_CONFIGS.

    Raises:
        ConfigError: With every mistake in the variables, or in all the files.
    """
    settings = Settings.from_environment(os.environ)
    return build_definitions(
        load_prompt_sets(settings.configs),
        ImageProducer.from_settings(settings),
        AlertSender.from_settings(settings),
    )
