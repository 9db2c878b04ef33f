"""When assets are made without a person, as the file says: on change, on schedule, or not."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

import dagster as dg

from flux_pipeline.defs.keys import GALLERY, LINEAGE, SPEND, SetKeys
from flux_pipeline.defs.partitions import range_tags, runs_for
from flux_pipeline.prompts import ByDay, PromptSet

BOOKS = "keep_books"
"""The job that keeps the tables over all prompt sets."""

AC = dg.AutomationCondition
Condition: TypeAlias = dg.AutomationCondition[Any]


@dataclass(frozen=True, slots=True)
class Conditions:
    """The automation conditions of one prompt set's assets; None: never by itself."""

    prompts: Condition | None = None
    images: Condition | None = None
    gallery: Condition | None = None


def build_conditions(prompt_set: PromptSet) -> Conditions:
    """Build what ``automation: on_change`` means.

    Not ``eager``: that would look at every image again whenever the prompts are merely re-read.
    What is missing is asked for once, and not again while it fails.
    """
    if prompt_set.automation != "on_change":
        return Conditions()
    idle = ~AC.in_progress()
    missing = AC.newly_missing() | (AC.initial_evaluation() & AC.missing())
    once = AC.newly_requested() | AC.newly_updated()
    changed = AC.any_deps_match(AC.data_version_changed())
    ready = ~AC.any_deps_missing() & ~AC.any_deps_in_progress()
    return Conditions(
        prompts=(AC.code_version_changed() | missing).since(once) & idle,
        images=(changed | missing).since(once) & ready & idle,
        gallery=AC.eager().without(~AC.any_deps_missing()),
    )


def build_job(prompt_set: PromptSet) -> Any:  # what define_asset_job gives has no public name
    """Build the job that makes prompts, images and gallery in one run."""
    keys = SetKeys(prompt_set.name)
    return dg.define_asset_job(
        keys.job,
        selection=dg.AssetSelection.assets(keys.prompts, keys.images, keys.gallery),
        description=f"Makes what is missing of {prompt_set.name}, and its gallery.",
    )


def build_schedule(prompt_set: PromptSet) -> dg.ScheduleDefinition | None:
    """Build the file's schedule; it runs from the start, unless the file says otherwise.

    Every tick asks for the whole set, in as many runs as its size needs, or for the day's batch.
    """
    if prompt_set.schedule is None:
        return None
    on = prompt_set.automation == "on_schedule"

    @dg.schedule(
        name=f"{SetKeys(prompt_set.name).job}_on_time",
        job_name=SetKeys(prompt_set.name).job,
        cron_schedule=prompt_set.schedule.cron,
        execution_timezone=prompt_set.schedule.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING if on else dg.DefaultScheduleStatus.STOPPED,
        description=f"As the file of {prompt_set.name} says.",
    )
    def on_time(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        tick = context.scheduled_execution_time
        if isinstance(cut := prompt_set.partitions, ByDay):
            day = tick.astimezone(ZoneInfo(cut.timezone)).date()
            if day >= cut.start:
                yield dg.RunRequest(run_key=f"{tick.isoformat()} {day}", partition_key=f"{day}")
            return
        known = prompt_set.partition_keys()
        for keys in runs_for(prompt_set, known, known):
            run_key = f"{tick.isoformat()} {keys.start}"
            yield dg.RunRequest(run_key=run_key, tags=range_tags(keys))

    return on_time


def build_books() -> tuple[Any, dg.ScheduleDefinition]:
    """Build the job that keeps lineage and spend up to date, and its schedule: it costs nothing."""
    job = dg.define_asset_job(
        BOOKS,
        selection=dg.AssetSelection.assets(LINEAGE, SPEND, GALLERY),
        description="Compacts the lineage table, adds up what was spent, makes the gallery of all.",
    )
    schedule = dg.ScheduleDefinition(
        name=f"{BOOKS}_hourly",
        job=job,
        cron_schedule="0 * * * *",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    return job, schedule


def build_automation() -> dg.AutomationConditionSensorDefinition:
    """Build the sensor that looks after prompt sets with ``automation: on_change``."""
    return dg.AutomationConditionSensorDefinition(
        "on_change",
        target=dg.AssetSelection.all(),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks for what was edited or is missing, where a file says on_change.",
    )
