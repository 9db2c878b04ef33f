"""Builds the Dagster definitions of a project: assets, checks, jobs, schedules and sensors."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import dagster as dg

from flux_pipeline.defs.alert_sensors import ALERT_SENDER, build_alerts
from flux_pipeline.defs.assets import build_assets
from flux_pipeline.defs.automation import (
    build_automation,
    build_chain_jobs,
    build_job,
    build_schedule,
    build_shared_assets_job,
)
from flux_pipeline.defs.downstream import build_failure_check
from flux_pipeline.defs.keys import SetKeys, asset_keys
from flux_pipeline.defs.published import build_published
from flux_pipeline.defs.rescue_job import build_rescue_job
from flux_pipeline.defs.shared_assets import build_shared_assets
from flux_pipeline.defs.unchanged import CONFIRM_UNCHANGED, build_unchanged_job
from flux_pipeline.prompts import PromptSet, all_followers
from flux_pipeline.resources import AlertSender, ImageProducer

IMAGE_PRODUCER = "image_producer"
"""The key under which the assets expect an ``ImageProducer``."""


def build_definitions(
    prompt_sets: Iterable[PromptSet],
    image_producer: ImageProducer,
    alert_sender: AlertSender | None = None,
) -> dg.Definitions:
    """Build everything: the prompt sets, the assets that they share, and the resources.

    Steps run in the run's own process: each run has one step that pays, and a process for it would
    cost seconds and bring nothing.
    """
    sets = list(prompt_sets)
    return dg.Definitions.merge(
        *(build_set(each, all_followers(each, sets)) for each in sets),
        build_shared(sets, image_producer, alert_sender),
        dg.Definitions(executor=dg.in_process_executor),
    )


def build_set(prompt_set: PromptSet, followers: Sequence[PromptSet] = ()) -> dg.Definitions:
    """Build one prompt set's assets with their checks, its job, and its schedule if it has one.

    ``followers`` are the sets that are made for its pictures, as ``all_followers`` finds them.
    """
    schedule = build_schedule(prompt_set)
    with without_beta_warnings():
        assets, check = build_assets(prompt_set, followers), build_failure_check(prompt_set.name)
        published = None if prompt_set.publish is None else build_published(prompt_set)
    return dg.Definitions(
        assets=[assets, *([published] if published else [])],
        asset_checks=[check],
        jobs=[build_job(prompt_set)],
        schedules=[schedule] if schedule else [],
    )


def build_shared(
    prompt_sets: Sequence[PromptSet],
    image_producer: ImageProducer | None,
    alert_sender: AlertSender | None = None,
) -> dg.Definitions:
    """Build what the prompt sets of a project share: lineage, spend, gallery, rescue, sensors.

    Without an ``image_producer`` the project's own definitions must have that resource. The alert
    sensors run where the ``alert_sender`` has a webhook; runs of other jobs and assets than those
    of these prompt sets and of what is built here send no alert.
    """
    names = [prompt_set.name for prompt_set in prompt_sets]
    automation = build_automation(prompt_sets)
    shared = build_shared_assets(names)
    shared_job, hourly = build_shared_assets_job()
    rescue_job, every_ten_minutes = build_rescue_job()
    sender = alert_sender or AlertSender()
    schedules = [each for each in map(build_schedule, prompt_sets) if each]
    keys = set(shared.keys)
    keys |= {key for each in prompt_sets for key in asset_keys(each)}
    jobs = {shared_job.name, rescue_job.name, CONFIRM_UNCHANGED}
    jobs |= {job for name in names for job in (SetKeys(name).job, SetKeys(name).chain_job)}

    def is_ours(run: dg.DagsterRun) -> bool:
        return run.job_name in jobs or not keys.isdisjoint(run.asset_selection or ())

    alerts = build_alerts(
        [*schedules, hourly, every_ten_minutes], is_ours, running=bool(sender.url)
    )
    producer = {} if image_producer is None else {IMAGE_PRODUCER: image_producer}
    return dg.Definitions(
        assets=[shared],
        resources={**producer, ALERT_SENDER: sender},
        jobs=[
            shared_job,
            rescue_job,
            build_unchanged_job(prompt_sets),
            *build_chain_jobs(prompt_sets),
        ],
        schedules=[hourly, every_ten_minutes],
        sensors=[*([automation] if automation else []), *alerts],
    )


@contextmanager
def without_beta_warnings() -> Iterator[None]:
    """Silence Dagster's warnings about the beta and preview features that are used here.

    They are ``BackfillPolicy`` and code references (beta), and partitioned checks (preview). Tests
    hold what is relied on of each; warnings of other classes come through.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        warnings.simplefilter("ignore", dg.PreviewWarning)
        yield
