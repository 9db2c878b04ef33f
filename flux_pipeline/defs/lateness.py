"""Schedules that are late: a tick that did not come or failed, or whose run hangs.

What is due is told from the cron line, what came from the instance. A sensor can only tell while
Dagster's daemon runs: that the daemon itself is gone is for whoever watches its machine.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from flux_pipeline.alerts import Kind, build_alert
from flux_pipeline.defs.automation import due_times
from flux_pipeline.defs.launch import CODE_LOCATION
from flux_pipeline.resources import AlertSender

LATE = timedelta(minutes=15)
"""A tick that has not come by then is missed, a run that has not begun hangs in the queue."""
LONG = timedelta(hours=6)
"""A run that has not ended by then, or when the next tick is due, is told as well."""
_REMEMBERED = 500
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_WAITING = frozenset({"QUEUED", "NOT_STARTED", "STARTING"})
_RUNNING = frozenset({"STARTED", "CANCELING"})


def build_late_sensor(
    schedules: Sequence[dg.ScheduleDefinition], status: dg.DefaultSensorStatus
) -> dg.SensorDefinition:
    """Build the sensor that looks every minute whether the last tick of each schedule came."""

    @dg.sensor(
        name="alert_on_late_schedules",
        minimum_interval_seconds=60,
        default_status=status,
        description="Tells the webhooks of FLUX_ALERT_URL which schedule is late.",
    )
    def on_late(context: dg.SensorEvaluationContext, alert_sender: AlertSender) -> dg.SkipReason:
        if not alert_sender.url:
            return dg.SkipReason("FLUX_ALERT_URL is not set.")
        told: list[str] = json.loads(context.cursor or "[]")
        origin, now, said = context.code_location_origin, datetime.now(UTC), []
        place = origin.location_name if origin else CODE_LOCATION
        for schedule in schedules:
            late = find_late(context.instance, schedule, location=place, now=now)
            for key, title, link in late:
                if key in told:
                    continue
                told.append(key)
                context.update_cursor(json.dumps(told[-_REMEMBERED:]))
                ui = alert_sender.ui_url
                links = {"run": f"{ui}/runs/{link}"} if link else {}
                links["schedule"] = f"{ui}/locations/{place}/schedules/{schedule.name}"
                alert = build_alert(Kind.SCHEDULE_LATE, title, links=links, key=key, run_id=link)
                alert_sender.send(alert)
                said.append(title)
        return dg.SkipReason("; ".join(said) or "No schedule is late.")

    return on_late


def find_late(
    instance: dg.DagsterInstance,
    schedule: dg.ScheduleDefinition,
    *,
    location: str = CODE_LOCATION,
    now: datetime,
) -> Iterator[tuple[str, str, str]]:
    """Key, words and run id (or empty) of everything that is late with one schedule.

    Looked at is the last tick that was due ``LATE`` ago, and after the schedule was turned on.
    """
    state = _state_of(instance, schedule, location)
    if state is None:
        return
    before, due = _last_due(schedule, now - LATE)
    if due.timestamp() < (state.instigator_data.start_timestamp or 0.0):
        return
    at = f"{schedule.name} {due.isoformat()}"
    ticks = instance.get_ticks(
        state.instigator_origin_id,
        state.selector_id,
        after=due.timestamp() - 1,
        before=due.timestamp() + 1,
    )
    if not ticks:
        yield f"{at} missed", f"{schedule.name}: the tick of {due:%Y-%m-%d %H:%M %Z} is missing", ""
        return
    tick = ticks[0]
    if tick.status.value == "FAILURE":
        said = tick.error.message.strip().splitlines()[:1] if tick.error else []
        title = f"{schedule.name}: the tick of {due:%Y-%m-%d %H:%M %Z} failed"
        yield f"{at} failed", ": ".join([title, *said]), ""
    patience = min(LONG, max(due - before, LATE))
    runs = instance.get_runs(dg.RunsFilter(run_ids=list(tick.run_ids))) if tick.run_ids else []
    for run in runs:
        of = f"{schedule.name}: the run of {due:%Y-%m-%d %H:%M %Z}"
        if run.status.value in _WAITING:
            yield f"{at} {run.run_id} waits", f"{of} has not begun", run.run_id
        elif run.status.value in _RUNNING and now - due > patience:
            yield f"{at} {run.run_id} runs", f"{of} has not ended", run.run_id


def _last_due(schedule: dg.ScheduleDefinition, until: datetime) -> tuple[datetime, datetime]:
    """The last two times up to ``until`` at which the schedule was due, in its own time zone."""
    times = due_times(str(schedule.cron_schedule), schedule.execution_timezone or "UTC", until)
    due = next(times, _EPOCH)
    return next(times, _EPOCH), due


def _state_of(instance: dg.DagsterInstance, schedule: dg.ScheduleDefinition, location: str) -> Any:
    """What the daemon keeps of a schedule that is turned on; None where it is off or unknown."""
    for state in instance.all_instigator_state():
        if (state.instigator_type.value, state.name) != ("SCHEDULE", schedule.name):
            continue
        if state.origin.repository_origin.code_location_origin.location_name != location:
            continue
        if state.status.value == "RUNNING":
            return state
        declared = state.status.value == "DECLARED_IN_CODE"
        if declared and schedule.default_status is dg.DefaultScheduleStatus.RUNNING:
            return state
    return None
