"""The definitions that Dagster loads: every prompt set of FLUX_CONFIGS, as FLUX_* sets them up."""

import os

import dagster as dg

from flux_pipeline.garbage_collector import building, paused

with paused():  # a collection would look through all of Dagster, for a tenth of a second
    from flux_pipeline.defs.build import build_definitions
    from flux_pipeline.defs.change_sensor import build_changes_sensor, watch_folder
    from flux_pipeline.prompts.load_cache import LoadCache
    from flux_pipeline.resources import AlertSender, ImageProducer
    from flux_pipeline.settings import Settings


@dg.definitions
def defs() -> dg.Definitions:
    """Build the definitions of every prompt set in the folder of FLUX_CONFIGS.

    Raises:
        ConfigError: With every mistake in the variables, or in all the files.
    """
    settings = Settings.of_process(os.environ)
    with building():  # looking through a hundred sets takes a third of the time
        watched = watch_folder(settings.configs, LoadCache(settings.cache, writes=True))
        built = build_definitions(
            watched.prompt_sets,
            ImageProducer.from_settings(settings),
            AlertSender.from_settings(settings),
        )
        watching = build_changes_sensor(watched, settings.ui_url)
        return dg.Definitions.merge(built, dg.Definitions(sensors=[watching]))
