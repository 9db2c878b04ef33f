"""Jobs, schedules, automation conditions and freshness policies, as a prompt set's file says."""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import islice, pairwise, takewhile
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

import dagster as dg

from flux_pipeline.defs.downstream import NO_FAILURE
from flux_pipeline.defs.keys import GALLERY, LINEAGE, SPEND, SetKeys, asset_keys, set_tags
from flux_pipeline.defs.partitions import due_times, range_tags, runs_for
from flux_pipeline.prompts import ByDay, PromptSet, group_by_chain
from flux_pipeline.prompts.schema import Schedule

REFRESH_SHARED_ASSETS = "refresh_shared_assets"
"""The job that makes lineage, spend and the gallery over all prompt sets."""
MOST_MISSED = 7
"""Days that a daily set's tick looks back for missed ones: longer outages need a backfill."""
GRACE = timedelta(hours=1)
"""How long after its tick a scheduled set is overdue if nothing was made."""
_SAMPLES = 40
"""Ticks in which the longest pause is looked for: a month of days."""
_ONE_TIME = re.compile(r"([0-9]+) ([0-9]|1[0-9]|2[0-2]) (.+)")
"""A cron line with one time of day, up to 22:59: an hour later is still the same day."""
AC = dg.AutomationCondition
Condition: TypeAlias = dg.AutomationCondition[Any]


@dataclass(frozen=True, slots=True)
class Conditions:
    """The automation conditions of one prompt set's assets; None: made only when asked for."""

    prompts: Condition | None = None
    images: Condition | None = None
    gallery: Condition | None = None
    published: Condition | None = None


def build_conditions(prompt_set: PromptSet) -> Conditions:
    """Build the conditions of ``automation: on_change``.

    Images are requested when their prompts' data version changes, not with ``eager``: that would
    request every image whenever the prompts are merely read again. A missing partition is requested
    once, and not again while it fails: each try could cost money. Published is also requested when
    what is published, how, or the file of picks is another.
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
        published=(AC.code_version_changed() | changed | missing).since(once) & ready & idle,
    )


def build_job(prompt_set: PromptSet) -> Any:  # the type of define_asset_job is not public
    """Build the job that makes all assets of the set in one run."""
    keys = SetKeys(prompt_set.name)
    chosen: dg.AssetSelection = dg.AssetSelection.assets(*asset_keys(prompt_set))
    publishes = prompt_set.publish is not None
    if not publishes:
        # Nothing follows the one step then, so that it fails the run itself.
        chosen -= dg.AssetSelection.checks(dg.AssetCheckKey(keys.images, NO_FAILURE))
    made = "its gallery, and publishes what is chosen" if publishes else "its gallery"
    return dg.define_asset_job(
        keys.job,
        selection=chosen,
        description=f"Makes what is missing of {prompt_set.name}, and {made}.",
        run_tags=set_tags(prompt_set),
        executor_def=dg.in_process_executor,  # a process for each step brings nothing
    )


def build_chain_jobs(prompt_sets: Iterable[PromptSet]) -> Sequence[Any]:
    """Build a job for each set that others follow: all of them in one run, in order.

    A follower's picture is begun as soon as the picture before it is stored.
    """
    return [
        dg.define_asset_job(
            SetKeys(first.name).chain_job,
            selection=dg.AssetSelection.assets(
                *(key for each in (first, *rest) for key in asset_keys(each))
            ),
            description=f"Makes what is missing of {first.name}, and of"
            f" {', '.join(each.name for each in rest)}, which follow it.",
            run_tags=set_tags(first),
            executor_def=dg.in_process_executor,
        )
        for first, *rest in group_by_chain(prompt_sets)
        if rest
    ]


def build_schedule(prompt_set: PromptSet) -> dg.ScheduleDefinition | None:
    """Build the file's schedule; it runs from the start with ``automation: on_schedule``.

    Every tick requests the whole set, in as many runs as its size needs, or the day's partition and
    the days that were missed. One run key for each tick and range: a tick that Dagster evaluates
    twice starts no run twice.
    """
    if prompt_set.schedule is None:
        return None
    on, keys = prompt_set.automation == "on_schedule", SetKeys(prompt_set.name)

    @dg.schedule(
        name=f"{keys.job}_on_time",
        job_name=keys.job,
        cron_schedule=prompt_set.schedule.cron,
        execution_timezone=prompt_set.schedule.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING if on else dg.DefaultScheduleStatus.STOPPED,
        description=f"Makes {prompt_set.name} at the times that its file gives.",
    )
    def on_time(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        tick = context.scheduled_execution_time
        if isinstance(prompt_set.partitions, ByDay):
            made = context.instance.get_materialized_partitions(keys.images)
            if prompt_set.publish is not None:
                made &= context.instance.get_materialized_partitions(keys.published)
            for day in days_due(prompt_set, tick, made):
                yield dg.RunRequest(run_key=f"{tick.isoformat()} {day}", partition_key=day)
            return
        known = prompt_set.partition_keys()
        for each in runs_for(prompt_set, known, known):
            run_key = f"{tick.isoformat()} {each.start}"
            yield dg.RunRequest(run_key=run_key, tags=range_tags(each))

    return on_time


def days_due(prompt_set: PromptSet, tick: datetime, made: Collection[str]) -> Sequence[str]:
    """The days to request at a tick: its own, and those after the last made one that were missed.

    A day of a set with ``publish`` is made once it is published too.

    After an outage Dagster evaluates the last tick alone. At most ``MOST_MISSED`` days back, and
    only today where no day was made yet: days before the first one need a backfill.
    """
    cut, schedule = prompt_set.partitions, prompt_set.schedule
    if not isinstance(cut, ByDay) or schedule is None:
        return []
    zone = ZoneInfo(cut.timezone)
    today = tick.astimezone(zone).date()
    last = max((day for day in made if day < today.isoformat()), default=None)
    days = {today}
    if last is not None:
        oldest = tick - timedelta(days=MOST_MISSED)
        missed = takewhile(oldest.__le__, due_times(schedule.cron, schedule.timezone, tick))
        days |= {time.astimezone(zone).date() for time in missed}
    first = max(cut.start, date.fromisoformat(last) + timedelta(days=1)) if last else cut.start
    return [f"{day}" for day in sorted(days) if first <= day <= today]


def build_freshness(prompt_set: PromptSet) -> dg.FreshnessPolicy | None:
    """Build the policy that images are made within ``GRACE`` of every tick of the schedule.

    None without a schedule that runs. A cron line with one time of day becomes a deadline an hour
    later. Any other becomes a time window: the longest of its last pauses, and the hour.
    """
    schedule = prompt_set.schedule
    if schedule is None or prompt_set.automation != "on_schedule":
        return None
    return _freshness(schedule)


# Dagster goes through a thousand ticks for each policy, and many sets have the same schedule.
@lru_cache(maxsize=100)
def _freshness(schedule: Schedule) -> dg.FreshnessPolicy | None:
    if daily := _ONE_TIME.fullmatch(schedule.cron):
        deadline = f"{daily[1]} {int(daily[2]) + 1} {daily[3]}"
        return dg.FreshnessPolicy.cron(deadline, GRACE, schedule.timezone)
    ticks = list(islice(due_times(schedule.cron, schedule.timezone, datetime.now(UTC)), _SAMPLES))
    pauses = [later - earlier for later, earlier in pairwise(ticks)]
    return dg.FreshnessPolicy.time_window(fail_window=max(pauses) + GRACE) if pauses else None


def build_shared_assets_job() -> tuple[Any, dg.ScheduleDefinition]:
    """Build the job that refreshes lineage, spend and gallery of all, and its hourly schedule."""
    job = dg.define_asset_job(
        REFRESH_SHARED_ASSETS,
        selection=dg.AssetSelection.assets(LINEAGE, SPEND, GALLERY),
        description="Compacts the lineage table, adds up what was spent, makes the gallery of all.",
        executor_def=dg.in_process_executor,
    )
    schedule = dg.ScheduleDefinition(
        name=f"{REFRESH_SHARED_ASSETS}_hourly",
        description="Keeps the tables and the gallery over all prompt sets; costs nothing.",
        job=job,
        cron_schedule="0 * * * *",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    return job, schedule


def build_automation(
    prompt_sets: Iterable[PromptSet],
) -> dg.AutomationConditionSensorDefinition | None:
    """Build the sensor that evaluates the conditions of the sets with ``automation: on_change``.

    None where no set has it. Its target is the assets of these sets alone: in another project the
    other assets belong to that project's own sensors.
    """
    keys = {
        key for each in prompt_sets if each.automation == "on_change" for key in asset_keys(each)
    }
    if not keys:
        return None
    return dg.AutomationConditionSensorDefinition(
        "on_change",
        target=dg.AssetSelection.assets(*sorted(keys)),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks for what was edited or is missing, where a file says on_change.",
    )
