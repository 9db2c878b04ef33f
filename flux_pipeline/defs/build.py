"""All that Dagster is told of prompt sets: their assets, jobs and schedules."""

from collections.abc import Iterable

import dagster as dg

from flux_pipeline.defs.alerts import ALERTS, build_alerts
from flux_pipeline.defs.assets import build_assets
from flux_pipeline.defs.automation import (
    build_automation,
    build_books,
    build_job,
    build_schedule,
)
from flux_pipeline.defs.beta import beta_accepted
from flux_pipeline.defs.galleries import build_gallery_of_all
from flux_pipeline.defs.rescue import build_rescue
from flux_pipeline.defs.tables import build_tables
from flux_pipeline.prompts import PromptSet
from flux_pipeline.resources import AlertSender, ImageProducer

RESOURCE = "image_producer"
"""The key under which the assets expect an ``ImageProducer``."""


def build_set(prompt_set: PromptSet) -> dg.Definitions:
    """Build one prompt set's assets with their checks, its job, and its schedule if it has one."""
    schedule = build_schedule(prompt_set)
    with beta_accepted():
        assets = build_assets(prompt_set)
    return dg.Definitions(
        assets=[assets],
        jobs=[build_job(prompt_set)],
        schedules=[schedule] if schedule else [],
    )


def build_definitions(
    prompt_sets: Iterable[PromptSet],
    image_producer: ImageProducer,
    alert_sender: AlertSender | None = None,
) -> dg.Definitions:
    """Build everything: the prompt sets, the tables over all of them, and what they run with.

    The sensors that alert run where the ``alert_sender`` has a webhook. Steps run in the run's own
    process: each has one step that pays, and a process more would cost seconds and bring nothing.
    """
    sets = list(prompt_sets)
    names = [prompt_set.name for prompt_set in sets]
    sensors = [build_automation()] if any(s.automation == "on_change" for s in sets) else []
    books, hourly = build_books()
    rescue, often = build_rescue()
    built = dg.Definitions.merge(
        *map(build_set, sets),
        dg.Definitions(
            assets=[*build_tables(names), build_gallery_of_all(names)],
            resources={RESOURCE: image_producer},
            jobs=[books, rescue],
            schedules=[hourly, often],
            sensors=sensors,
            executor=dg.in_process_executor,
        ),
    )
    sender = alert_sender or AlertSender()
    alerts = build_alerts(_schedules(built), running=bool(sender.url))
    return dg.Definitions.merge(built, dg.Definitions(sensors=alerts, resources={ALERTS: sender}))


def _schedules(definitions: dg.Definitions) -> list[dg.ScheduleDefinition]:
    each = definitions.schedules or ()
    return [schedule for schedule in each if isinstance(schedule, dg.ScheduleDefinition)]
