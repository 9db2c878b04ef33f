"""What Dagster loads; with ``cli`` and ``defs.books`` the only reader of the environment."""

import os

import dagster as dg

from flux_pipeline.defs.build import build_definitions
from flux_pipeline.defs.changes import build_changes_sensor, load_watched
from flux_pipeline.defs.keys import SetKeys
from flux_pipeline.resources import AlertSender, ImageProducer
from flux_pipeline.settings import Settings


@dg.definitions
def defs() -> dg.Definitions:
    """Build the definitions of every prompt set in the folder of FLUX_CONFIGS.

    Raises:
        ConfigError: With every mistake in the variables, or in all the files.
    """
    settings = Settings.from_environment(os.environ)
    loaded = load_watched(settings.configs)
    built = build_definitions(
        loaded.prompt_sets,
        ImageProducer.from_settings(settings),
        AlertSender.from_settings(settings),
    )
    makes = {SetKeys(each.name).job for each in loaded.prompt_sets}
    jobs = [job for job in built.jobs or () if job.name in makes]
    watching = build_changes_sensor(loaded, settings.ui_url, jobs)
    return dg.Definitions.merge(built, dg.Definitions(sensors=[watching]))
