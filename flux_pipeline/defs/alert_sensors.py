"""Sensors and functions that send an alert for a failed run, held requests and a late schedule.

One alert a failure: its key is written to the run's tag ``flux/told`` before it is sent, so that
the sensor and the command line that launched the run do not both send it. The trap: sensors run
only while Dagster's daemon does. That the daemon itself has stopped must be watched from outside.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from flux_pipeline.alerts import Alert, Kind, build_alert
from flux_pipeline.defs.keys import CODE_LOCATION
from flux_pipeline.defs.partitions import due_times
from flux_pipeline.defs.run_summary import HELD, NOT_STORED, explain_failure
from flux_pipeline.ledger.base import State
from flux_pipeline.produce.report import Stop
from flux_pipeline.resources import AlertSender
from flux_pipeline.text import count_noun

if TYPE_CHECKING:
    from flux_pipeline.audit.rescue import Rescued
    from flux_pipeline.defs.launch import Launched

ALERT_SENDER = "alert_sender"
"""The key under which the sensors expect an ``AlertSender``."""
NOTIFIED = "flux/told"
"""The tag that holds the key of the alert that was sent about a run."""
LATE = timedelta(minutes=15)
"""A tick that has not come by then is missed; a run that has not begun by then is stuck."""
LONG = timedelta(hours=6)
"""A run that has not ended by then, or when the next tick is due, is late as well."""
_WILL_RETRY = "dagster/will_retry"
_ENDS_THEM = "flux-pipeline held shows and ends them"
_MOST_REASONS = 5
_REMEMBERED = 500
"""Keys of alerts in the sensor's cursor; older ones are of ticks that are not looked at again."""
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_NOT_BEGUN = frozenset({"QUEUED", "NOT_STARTED", "STARTING"})
_RUNNING = frozenset({"STARTED", "CANCELING"})

_KINDS = {
    NOT_STORED: (Kind.NOT_STORED, "images are paid and not stored yet"),
    Stop.STORE: (Kind.STOPPED, "nothing is created while the store fails"),
    Stop.LEDGER: (Kind.STOPPED, "the ledger has forgotten what is stored"),
    Stop.CREDIT: (Kind.OUT_OF_CREDIT, "the provider is out of credit"),
    Stop.KEY: (Kind.KEY_REFUSED, "the provider refused the key"),
    Stop.REJECTED: (Kind.STOPPED, "the provider's address or the form of our calls is wrong"),
    Stop.PROXY: (Kind.STOPPED, "the proxy refuses the calls"),
    Stop.FAILURES: (Kind.STOPPED, "nothing more is created, because the same failure came again"),
    Stop.DAY_BUDGET: (Kind.BUDGET_REACHED, "the day's budget is reached"),
    Stop.MONTH_BUDGET: (Kind.BUDGET_REACHED, "the month's budget is reached"),
    Stop.RUN_BUDGET: (Kind.BUDGET_REACHED, "the run's budget is reached"),
    Stop.LIMIT: (Kind.BUDGET_REACHED, "the run's limit of requests is reached"),
    HELD: (Kind.HELD, "requests are held: they may have been paid"),
}
"""By urgency: where a run has several causes, the first of these is its alert's kind."""


def build_alerts(
    schedules: Sequence[dg.ScheduleDefinition],
    is_ours: Callable[[dg.DagsterRun], bool] = lambda _run: True,
    *,
    running: bool,
) -> Sequence[dg.SensorDefinition]:
    """Build the sensors for failed runs and late schedules.

    ``running`` says whether they run without being turned on. ``is_ours`` is false for the runs of
    another project whose definitions are loaded together with these: they are left alone.
    """
    status = dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED

    @dg.run_failure_sensor(
        name="alert_on_failure",
        default_status=status,
        description="Tells the webhooks of FLUX_ALERT_URL why a run failed.",
    )
    def on_failure(context: dg.RunFailureSensorContext, alert_sender: AlertSender) -> None:
        run = context.dagster_run
        # A run that Dagster starts again is not over: its last retry sends the alert.
        if run.tags.get(_WILL_RETRY) == "true" or not is_ours(run):
            return
        reason, metadata = explain_failure(context.get_step_failure_events())
        reason = reason or str(context.failure_event.message or "")
        alert = failure_alert(run, reason, metadata, ui_url=alert_sender.ui_url)
        notify(context.instance, run.run_id, alert, alert_sender)

    return [on_failure, build_late_sensor(schedules, status)]


def notify_launched(
    instance: dg.DagsterInstance, launched: "Launched", alert_sender: AlertSender
) -> None:
    """Send an alert for a run that this process launched, if it failed."""
    run = None if launched.success else instance.get_run_by_id(launched.run_id)
    if run is not None:
        ui_url = alert_sender.ui_url
        alert = failure_alert(run, launched.reason, launched.metadata, ui_url=ui_url)
        notify(instance, run.run_id, alert, alert_sender)


def notify_rescued(
    instance: dg.DagsterInstance, run_id: str, rescued: "Rescued", alert_sender: AlertSender
) -> None:
    """Send an alert for what a rescue had to hold, or could not store: its run does not fail.

    What is not stored is told once an hour, although the rescue looks every ten minutes: within
    that time its outputs are deleted.
    """
    links = {"run": f"{alert_sender.ui_url}/runs/{run_id}"}
    if held := rescued.states[State.HELD]:
        alert = build_alert(
            Kind.HELD,
            f"rescue: {_KINDS[HELD][1]}",
            [f"{count_noun(held, 'request')}; {_ENDS_THEM}"],
            links=links,
            key=f"run {run_id}",
            run_id=run_id,
        )
        notify(instance, run_id, alert, alert_sender)
    if left := sum(rescued.states[state] for state in State if state.is_open):
        alert = build_alert(
            Kind.NOT_STORED,
            f"rescue: {_KINDS[NOT_STORED][1]}",
            [count_noun(left, "request"), *rescued.reasons.lines(_MOST_REASONS)],
            links=links,
            key=f"rescue not stored {datetime.now(UTC):%Y-%m-%d %H}",
            run_id=run_id,
        )
        notify(instance, run_id, alert, alert_sender)


def notify(
    instance: dg.DagsterInstance, run_id: str, alert: Alert, alert_sender: AlertSender
) -> bool:
    """Send an alert about a run, unless one of the same key was; return whether it was sent.

    The trap: an alert that could not be delivered is logged and not sent again.
    """
    same_key = dg.RunsFilter(tags={NOTIFIED: alert.key})
    if not alert_sender.url or instance.get_runs(same_key, limit=1):
        return False
    instance.add_run_tags(run_id, {NOTIFIED: alert.key})
    alert_sender.send(alert)
    return True


def failure_alert(
    run: dg.DagsterRun, reason: str, metadata: Mapping[str, Any], *, ui_url: str
) -> Alert:
    """Build the alert for a failed run from its failure's description and metadata."""
    name = _prompt_set_of(run)
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
    """The key of a cause that lasts over several runs: one alert a day, or a month for its budget.

    The budget's name and limit are in the key, so that a budget that was raised and reached again
    has an alert of its own. Empty for a cause that concerns one run alone.
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


def _prompt_set_of(run: dg.DagsterRun) -> str:
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
        notified: list[str] = json.loads(context.cursor or "[]")
        origin, now, titles = context.code_location_origin, datetime.now(UTC), []
        location = origin.location_name if origin else CODE_LOCATION
        for schedule in schedules:
            for late in find_late(context.instance, schedule, location=location, now=now):
                if late.key in notified:
                    continue
                # Noted before it is sent: a webhook that hangs must not be called every minute.
                notified.append(late.key)
                context.update_cursor(json.dumps(notified[-_REMEMBERED:]))
                alert_sender.send(_late_alert(late, schedule.name, location, alert_sender.ui_url))
                titles.append(late.title)
        return dg.SkipReason("; ".join(titles) or "No schedule is late.")

    return on_late


@dataclass(frozen=True, slots=True)
class Late:
    """A tick of a schedule that is missing or failed, or a run of it that is stuck."""

    key: str
    """The same as long as the cause is the same."""
    title: str
    run_id: str = ""
    """Empty where there is no run."""


def find_late(
    instance: dg.DagsterInstance,
    schedule: dg.ScheduleDefinition,
    *,
    location: str = CODE_LOCATION,
    now: datetime,
) -> Iterator[Late]:
    """Give everything that is late with one schedule that is turned on.

    Only the last tick that was due at least ``LATE`` ago counts, if the schedule was turned on
    before it. The due time comes from the cron line, the tick from the instance.
    """
    state = _state_of(instance, schedule, location)
    if state is None:
        return
    before, due = _last_due(schedule, now - LATE)
    if due.timestamp() < (state.instigator_data.start_timestamp or 0.0):
        return
    at, when = f"{schedule.name} {due.isoformat()}", f"{due:%Y-%m-%d %H:%M %Z}"
    ticks = instance.get_ticks(
        state.instigator_origin_id,
        state.selector_id,
        after=due.timestamp() - 1,
        before=due.timestamp() + 1,
    )
    if not ticks:
        yield Late(f"{at} missed", f"{schedule.name}: the tick of {when} is missing")
        return
    tick = ticks[0]
    if tick.status.value == "FAILURE":
        reason = tick.error.message.strip().splitlines()[:1] if tick.error else []
        title = f"{schedule.name}: the tick of {when} failed"
        yield Late(f"{at} failed", ": ".join([title, *reason]))
    patience = min(LONG, max(due - before, LATE))
    runs = instance.get_runs(dg.RunsFilter(run_ids=list(tick.run_ids))) if tick.run_ids else []
    for run in runs:
        title = f"{schedule.name}: the run of {when}"
        if run.status.value in _NOT_BEGUN:
            yield Late(f"{at} {run.run_id} waits", f"{title} has not begun", run.run_id)
        elif run.status.value in _RUNNING and now - due > patience:
            yield Late(f"{at} {run.run_id} runs", f"{title} has not ended", run.run_id)


def _late_alert(late: Late, schedule: str, location: str, ui_url: str) -> Alert:
    links = {"run": f"{ui_url}/runs/{late.run_id}"} if late.run_id else {}
    links["schedule"] = f"{ui_url}/locations/{location}/schedules/{schedule}"
    return build_alert(
        Kind.SCHEDULE_LATE, late.title, links=links, key=late.key, run_id=late.run_id
    )


def _last_due(schedule: dg.ScheduleDefinition, until: datetime) -> tuple[datetime, datetime]:
    """The last two times up to ``until`` at which the schedule was due, in its own time zone."""
    times = due_times(str(schedule.cron_schedule), schedule.execution_timezone or "UTC", until)
    due = next(times, _EPOCH)
    return next(times, _EPOCH), due


def _state_of(instance: dg.DagsterInstance, schedule: dg.ScheduleDefinition, location: str) -> Any:
    """The daemon's stored state of a schedule that is turned on; None if it is off or unknown."""
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
