"""All that Dagster is told of prompt sets: their assets, jobs and schedules."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import dagster as dg

from flux_pipeline.defs.alert_sensors import ALERTS, build_alerts
from flux_pipeline.defs.assets import build_assets
from flux_pipeline.defs.automation import (
    build_automation,
    build_job,
    build_schedule,
    build_shared_assets_job,
)
from flux_pipeline.defs.keys import SetKeys
from flux_pipeline.defs.rescue import build_rescue
from flux_pipeline.defs.shared_assets import build_gallery_of_all, build_tables
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


def build_shared(
    prompt_sets: Sequence[PromptSet],
    image_producer: ImageProducer | None,
    alert_sender: AlertSender | None = None,
) -> dg.Definitions:
    """Build what the prompt sets of a project share: tables, gallery of all, rescue, sensors.

    Without an ``image_producer`` the project has one itself. The sensors that alert run where the
    ``alert_sender`` has a webhook, and tell of these prompt sets and of what is built here alone.
    """
    names = [prompt_set.name for prompt_set in prompt_sets]
    automation = build_automation(prompt_sets)
    tables = [*build_tables(names), build_gallery_of_all(names)]
    shared_job, hourly = build_shared_assets_job()
    rescue, often = build_rescue()
    sender = alert_sender or AlertSender()
    on_time = [each for each in map(build_schedule, prompt_sets) if each]
    keys = {key for table in tables for key in table.keys}
    for name in names:
        keys |= SetKeys(name).all
    jobs = {shared_job.name, rescue.name, *(SetKeys(name).job for name in names)}

    def is_ours(run: dg.DagsterRun) -> bool:
        return run.job_name in jobs or not keys.isdisjoint(run.asset_selection or ())

    alerts = build_alerts([*on_time, hourly, often], is_ours, running=bool(sender.url))
    producer = {} if image_producer is None else {RESOURCE: image_producer}
    return dg.Definitions(
        assets=tables,
        resources={**producer, ALERTS: sender},
        jobs=[shared_job, rescue],
        schedules=[hourly, often],
        sensors=[*([automation] if automation else []), *alerts],
    )


def build_definitions(
    prompt_sets: Iterable[PromptSet],
    image_producer: ImageProducer,
    alert_sender: AlertSender | None = None,
) -> dg.Definitions:
    """Build everything: the prompt sets, what they share, and what they run with.

    Steps run in the run's own process: each has one step that pays, and a process more would cost
    seconds and bring nothing.
    """
    sets = list(prompt_sets)
    return dg.Definitions.merge(
        *map(build_set, sets),
        build_shared(sets, image_producer, alert_sender),
        dg.Definitions(executor=dg.in_process_executor),
    )


@contextmanager
def beta_accepted() -> Iterator[None]:
    """Build with BackfillPolicy and code references, which are beta, without a warning each time.

    Partitioned checks are preview, and warn as such.

    A test names what is relied on of each; warnings of other classes come through.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        warnings.simplefilter("ignore", dg.PreviewWarning)
        yield
