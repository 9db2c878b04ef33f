"""Dagster's side of alerts: what is told of a run that failed, and by whom it is told once.

A run that failed is told by the sensor, or by the command line that ran it, whoever is first: the
alert's key is noted as a tag of the run before it is sent.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from flux_pipeline.alerts import Alert, Kind, build_alert
from flux_pipeline.defs.launch import CODE_LOCATION, Launched, explain_failure
from flux_pipeline.defs.partitions import due_times
from flux_pipeline.defs.run_summary import HELD
from flux_pipeline.produce.report import Stop
from flux_pipeline.resources import AlertSender
from flux_pipeline.text import count_noun

TOLD = "flux/told"
"""The tag that holds the key of the alert about a run."""
ALERTS = "alert_sender"
"""The key under which the sensors expect an ``AlertSender``."""
_WILL_RETRY = "dagster/will_retry"
_ENDS_THEM = "flux-pipeline held shows and ends them"

_KINDS = {
    Stop.CREDIT: (Kind.OUT_OF_CREDIT, "the provider is out of credit"),
    Stop.KEY: (Kind.KEY_REFUSED, "the provider refused the key"),
    Stop.DAY_BUDGET: (Kind.BUDGET_REACHED, "the day's budget is reached"),
    Stop.MONTH_BUDGET: (Kind.BUDGET_REACHED, "the month's budget is reached"),
    Stop.RUN_BUDGET: (Kind.BUDGET_REACHED, "the run's budget is reached"),
    HELD: (Kind.HELD, "requests are held: they may have been paid"),
}
"""By urgency: the first that a run has gives its alert the kind."""
LATE = timedelta(minutes=15)
"""A tick that has not come by then is missed, a run that has not begun hangs in the queue."""
LONG = timedelta(hours=6)
"""A run that has not ended by then, or when the next tick is due, is told as well."""
_REMEMBERED = 500
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_WAITING = frozenset({"QUEUED", "NOT_STARTED", "STARTING"})
_RUNNING = frozenset({"STARTED", "CANCELING"})


def build_alerts(
    schedules: Sequence[dg.ScheduleDefinition],
    is_ours: Callable[[dg.DagsterRun], bool] = lambda _run: True,
    *,
    running: bool,
) -> Sequence[dg.SensorDefinition]:
    """Build the sensors; ``running`` says whether they run without being turned on.

    Runs that are not ours are another project's, whose definitions stand beside these.
    """
    status = dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED

    @dg.run_failure_sensor(
        name="alert_on_failure",
        default_status=status,
        description="Tells the webhooks of FLUX_ALERT_URL why a run failed.",
    )
    def on_failure(context: dg.RunFailureSensorContext, alert_sender: AlertSender) -> None:
        run = context.dagster_run
        if run.tags.get(_WILL_RETRY) == "true" or not is_ours(run):
            return
        reason, metadata = explain_failure(context.get_step_failure_events())
        reason = reason or str(context.failure_event.message or "")
        alert = failure_alert(run, reason, metadata, ui_url=alert_sender.ui_url)
        tell(context.instance, run.run_id, alert, alert_sender)

    return [on_failure, build_late_sensor(schedules, status)]


def tell_launched(
    instance: dg.DagsterInstance, launched: Launched, alert_sender: AlertSender
) -> None:
    """Tell of a run that this process launched, if it failed."""
    run = None if launched.success else instance.get_run_by_id(launched.run_id)
    if run is not None:
        ui_url = alert_sender.ui_url
        alert = failure_alert(run, launched.reason, launched.metadata, ui_url=ui_url)
        tell(instance, run.run_id, alert, alert_sender)


def tell(
    instance: dg.DagsterInstance, run_id: str, alert: Alert, alert_sender: AlertSender
) -> bool:
    """Send an alert about a run, unless one of the same key was; return whether it was sent.

    The trap: what could not be delivered is logged and not sent again.
    """
    if not alert_sender.url or instance.get_runs(dg.RunsFilter(tags={TOLD: alert.key}), limit=1):
        return False
    instance.add_run_tags(run_id, {TOLD: alert.key})
    alert_sender.send(alert)
    return True


def tell_held(
    instance: dg.DagsterInstance, run_id: str, requests: int, alert_sender: AlertSender
) -> None:
    """Tell of requests that a rescue had to hold: its run does not fail for them."""
    if requests:
        alert = build_alert(
            Kind.HELD,
            f"rescue: {_KINDS[HELD][1]}",
            [f"{count_noun(requests, 'request')}; {_ENDS_THEM}"],
            links={"run": f"{alert_sender.ui_url}/runs/{run_id}"},
            key=f"run {run_id}",
            run_id=run_id,
        )
        tell(instance, run_id, alert, alert_sender)


def failure_alert(
    run: dg.DagsterRun, reason: str, metadata: Mapping[str, Any], *, ui_url: str
) -> Alert:
    """What is to be told of a failed run, by its failure's description and metadata."""
    name = _set_of(run)
    waiting: Mapping[str, Any] = metadata.get("flux/waiting") or {}
    cause = next((each for each in _KINDS if each in waiting), None)
    links = {"run": f"{ui_url}/runs/{run.run_id}"}
    if name:
        links["images"] = f"{ui_url}/assets/{name}/images"
    kind, title, key, more = Kind.RUN_FAILED, f"{run.job_name} failed", "", list[str]()
    if cause is not None:
        count, what = waiting[cause], _KINDS[cause][1]
        kind, title = _KINDS[cause][0], f"{name}: {what}"
        if len(waiting) == 1 and not metadata.get("flux/broken_requests"):
            key = _period_key(cause, name, str(count["reason"]))
        if cause == HELD:
            more = [f"{count['requests']} of {count['usd']:.4f} USD; {_ENDS_THEM}"]
    return build_alert(
        kind,
        title,
        [*reason.splitlines(), *more],
        links=links,
        key=key or f"run {run.run_id}",
        prompt_set=name,
        run_id=run.run_id,
    )


def _period_key(cause: str, prompt_set: str, reason: str) -> str:
    """What is the same thing over several runs: told once a day, a month's budget once a month.

    The budget's name and limit are in the key, so that one which was raised is told again.
    """
    now, budget = datetime.now(UTC), reason.partition(" has ")[0]
    match cause:
        case Stop.CREDIT | Stop.KEY:
            return f"{cause} {now:%Y-%m-%d}"
        case Stop.DAY_BUDGET:
            return f"{now:%Y-%m-%d} {budget}"
        case Stop.MONTH_BUDGET:
            return f"{now:%Y-%m} {prompt_set} {budget}"
    return ""


def _set_of(run: dg.DagsterRun) -> str:
    """The prompt set whose images a run makes; empty for the other jobs."""
    if run.job_name.startswith("make_"):
        return run.job_name.removeprefix("make_")
    chosen = {key.path[0] for key in run.asset_selection or () if len(key.path) > 1}
    return chosen.pop() if len(chosen) == 1 else ""


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
