"""Alerts for failed runs and late schedules, over a real socket, and one for each cause."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Self

import dagster as dg
import pytest
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    ScheduleInstigatorData,
    TickData,
    TickStatus,
)
from dagster._utils.error import SerializableErrorInfo

from flux_pipeline.alerts import Kind
from flux_pipeline.audit.rescue import Rescued
from flux_pipeline.defs import alert_sensors as alerts
from flux_pipeline.defs.alert_sensors import (
    LATE,
    LONG,
    build_alerts,
    failure_alert,
    find_late,
    notify_launched,
    notify_rescued,
)
from flux_pipeline.defs.automation import build_schedule
from flux_pipeline.defs.launch import CODE_LOCATION, Launched, launch_set, open_instance
from flux_pipeline.defs.run_summary import HELD, NOT_STORED
from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.ledger.base import State
from flux_pipeline.produce import producer
from flux_pipeline.produce.report import Stop
from flux_pipeline.resources import AlertSender
from tests.defs.asset_runner import AssetRunner
from tests.servers.webhook import Receiver, receiver

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
THREE = "prompts: {castle: a castle, harbour: a harbour, moon: the moon}\n"


@pytest.fixture
def webhook() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture
def same_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that stands still, for alerts that are sent once a day or a month."""

    class StandingStill(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls(2026, 11, 20, 12, tzinfo=tz)

    monkeypatch.setattr(alerts, "datetime", StandingStill)
    monkeypatch.setattr(producer, "_now", lambda: NOW)


@pytest.fixture
def sender(webhook: Receiver) -> AlertSender:
    return AlertSender(url=f"{webhook.origin}/hook", ui_url="https://dagster.example")


def failed_run(runner: AssetRunner, text: str = THREE) -> Launched:
    winter = runner.write(text)
    (launched,) = launch_set(runner.instance, runner.definitions(winter), winter)
    assert not launched.success
    return launched


def sensed(runner: AssetRunner, launched: Launched, sender: AlertSender) -> None:
    """Let the sensor see the failure, as the daemon does."""
    run = runner.instance.get_run_by_id(launched.run_id)
    logs = runner.instance.all_logs(launched.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    assert run is not None
    assert logs[0].dagster_event is not None
    context = dg.build_run_status_sensor_context(
        sensor_name="alert_on_failure",
        dagster_event=logs[0].dagster_event,
        dagster_instance=runner.instance,
        dagster_run=run,
        resources={"alert_sender": sender},
    ).for_run_failure()
    on_failure: Any = build_alerts([], running=True)[0]
    on_failure(context)


def test_a_failed_run_gives_an_alert_with_its_reasons_and_links(
    runner: AssetRunner, webhook: Receiver, sender: AlertSender
) -> None:
    runner.serve(FaultPlan(outcome={"failed_permanent": 1.0}, only_prompts="castle", cap=100))
    launched = failed_run(runner)
    sensed(runner, launched, sender)
    (body,) = webhook.bodies
    assert (body["kind"], body["title"]) == ("run_failed", f"make_{runner.name} failed")
    assert body["lines"][0] == "1 of 3 partitions failed"
    assert body["lines"][1].startswith("castle: ")
    assert body["links"] == {
        "run": f"https://dagster.example/runs/{launched.run_id}",
        "images": f"https://dagster.example/assets/{runner.name}/images",
    }
    assert (body["prompt_set"], body["run_id"]) == (runner.name, launched.run_id)


@pytest.mark.parametrize("first", ["sensor", "command line"])
def test_a_run_gives_one_alert_by_the_sensor_or_the_command_line(
    runner: AssetRunner, webhook: Receiver, sender: AlertSender, first: str
) -> None:
    runner.serve(FaultPlan(outcome={"failed_permanent": 1.0}, cap=100))
    launched = failed_run(runner)
    if first == "sensor":
        sensed(runner, launched, sender)
    notify_launched(runner.instance, launched, sender)
    sensed(runner, launched, sender)
    assert len(webhook.bodies) == 1


def test_a_run_that_succeeded_gives_no_alert(
    runner: AssetRunner, webhook: Receiver, sender: AlertSender
) -> None:
    winter = runner.write(THREE)
    for launched in launch_set(runner.instance, runner.definitions(winter), winter):
        notify_launched(runner.instance, launched, sender)
    assert webhook.bodies == []


def test_a_retried_run_gives_an_alert_after_its_last_try(
    runner: AssetRunner, webhook: Receiver, sender: AlertSender
) -> None:
    runner.serve(FaultPlan(outcome={"failed_permanent": 1.0}, cap=100))
    launched = failed_run(runner)
    runner.instance.add_run_tags(launched.run_id, {"dagster/will_retry": "true"})
    sensed(runner, launched, sender)
    assert webhook.bodies == []


def test_a_budget_of_the_run_gives_an_alert_with_what_it_left_out(
    runner: AssetRunner, webhook: Receiver, sender: AlertSender
) -> None:
    launched = failed_run(runner, THREE + "budget: {usd_per_run: 0.004}\n")
    notify_launched(runner.instance, launched, sender)
    (body,) = webhook.bodies
    assert body["kind"] == "budget_reached"
    assert body["title"] == f"{runner.name}: the run's budget is reached"
    assert "budget usd_per_run 0.004 has 0.001 USD left" in body["text"]
    assert "not sent: 2 requests of 0.0060 USD" in body["text"]
    assert runner.usage().creates_accepted == 1


def test_the_budget_of_a_month_gives_one_alert_and_another_when_it_was_raised(
    runner: AssetRunner, webhook: Receiver, sender: AlertSender, same_day: None
) -> None:
    for limit in (0.0, 0.0, 0.001):
        launched = failed_run(runner, THREE + f"budget: {{usd_per_month: {limit}}}\n")
        notify_launched(runner.instance, launched, sender)
    assert [body["kind"] for body in webhook.bodies] == ["budget_reached"] * 2
    assert runner.usage().creates_received == 0


def test_a_provider_out_of_credit_gives_one_alert_a_day_over_all_sets(
    runner: AssetRunner, webhook: Receiver, sender: AlertSender, same_day: None
) -> None:
    runner.options = EmulatorOptions(time_scale=0, render="cheap", credit_usd=0.0)
    for _ in range(2):
        notify_launched(runner.instance, failed_run(runner), sender)
    (body,) = webhook.bodies
    assert body["kind"] == "out_of_credit"
    assert body["title"] == f"{runner.name}: the provider is out of credit"
    assert "402" in body["text"]


@pytest.mark.parametrize(
    ("waiting", "kind"),
    [
        ({"held": 1}, Kind.HELD),
        ({"key": 1, "held": 1}, Kind.KEY_REFUSED),
        ({"day_budget": 1, "key": 1}, Kind.KEY_REFUSED),
        ({"failures": 1, "not_stored": 1}, Kind.NOT_STORED),
        ({"store": 1, "held": 1}, Kind.STOPPED),
        ({"ledger": 1}, Kind.STOPPED),
        ({"rejected": 1}, Kind.STOPPED),
        ({"proxy": 1}, Kind.STOPPED),
        ({"failures": 1}, Kind.STOPPED),
        ({}, Kind.RUN_FAILED),
    ],
)
def test_the_most_urgent_cause_gives_the_kind(waiting: dict[str, int], kind: Kind) -> None:
    run = dg.DagsterRun(job_name="make_winter", run_id="1")
    each = {name: {"reason": "r", "requests": n, "usd": 0.003} for name, n in waiting.items()}
    alert = failure_alert(run, "why", {"flux/waiting": each}, ui_url="https://ui.example")
    assert alert.kind is kind
    assert alert.key == "run 1" or len(waiting) == 1
    if kind is Kind.HELD:
        assert "flux-pipeline held" in alert.lines[-1]


def test_every_stop_has_a_kind_of_its_own_words() -> None:
    assert {*Stop, HELD, NOT_STORED} == set(alerts._KINDS)
    assert len({title for _, title in alerts._KINDS.values()}) == len(alerts._KINDS)


def test_a_host_that_is_not_allowed_gives_an_alert_with_what_to_set_and_until_when(
    runner: AssetRunner, webhook: Receiver, sender: AlertSender
) -> None:
    runner.options = EmulatorOptions(
        time_scale=0, render="cheap", output_origin="https://pictures.example"
    )
    many = "prompts: {" + ", ".join(f"p{n}: picture {n}" for n in range(9)) + "}\n"
    launched = failed_run(runner, many)
    notify_launched(runner.instance, launched, sender)
    (body,) = webhook.bodies
    assert body["kind"] == "not_stored"
    assert body["title"] == f"{runner.name}: images are paid and not stored yet"
    assert "FLUX_OUTPUT_HOSTS=" in body["text"]
    assert "paid and not stored yet: " in body["text"]
    assert "about 59 minutes left; the next run or `flux-pipeline rescue`" in body["text"]


@pytest.mark.usefixtures("same_day")
@pytest.mark.parametrize(
    ("states", "kinds"),
    [
        ({State.STORED: 3}, []),
        ({State.HELD: 2}, ["held"]),
        ({State.ACCEPTED: 2, State.SUCCEEDED: 1}, ["not_stored"]),
    ],
)
def test_what_a_rescue_had_to_hold_or_could_not_store_gives_an_alert(
    runner: AssetRunner,
    webhook: Receiver,
    sender: AlertSender,
    states: dict[State, int],
    kinds: list[str],
) -> None:
    job = runner.definitions(runner.write(THREE)).resolve_job_def("rescue_predictions")
    rescued = Rescued(states=Counter(states))
    rescued.reasons.add_text("paid, not stored yet: host not allowed", 3)
    for _ in range(2):
        run = runner.instance.create_run_for_job(job)
        notify_rescued(runner.instance, run.run_id, rescued, sender)
    assert [body["kind"] for body in webhook.bodies] == kinds * (2 if kinds == ["held"] else 1)
    if kinds == ["not_stored"]:
        lines = webhook.bodies[0]["lines"]
        assert lines == ["3 requests", "3 x paid, not stored yet: host not allowed"]


def test_a_webhook_that_is_away_fails_nothing(runner: AssetRunner, webhook: Receiver) -> None:
    webhook.answers = [(404, "")]
    runner.serve(FaultPlan(outcome={"failed_permanent": 1.0}, cap=100))
    sensed(runner, failed_run(runner), AlertSender(url=webhook.origin))
    assert len(webhook.bodies) == 1


DUE = datetime(2026, 11, 20, 6, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    """An instance that keeps ticks."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with open_instance(folder) as opened:
        yield opened


@pytest.fixture
def daily(runner: AssetRunner, lasting: dg.DagsterInstance) -> dg.ScheduleDefinition:
    runner.instance = lasting
    built = build_schedule(runner.write(THREE + "schedule: {cron: '0 6 * * *'}\n"))
    assert built is not None
    return built


def turned_on(
    runner: AssetRunner,
    schedule: dg.ScheduleDefinition,
    *,
    since: datetime,
    location: str = CODE_LOCATION,
) -> InstigatorState:
    place = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(location), "__repository__")
    state = InstigatorState(
        RemoteInstigatorOrigin(place, schedule.name),
        InstigatorType.SCHEDULE,
        InstigatorStatus.RUNNING,
        ScheduleInstigatorData(str(schedule.cron_schedule), since.timestamp()),
    )
    runner.instance.add_instigator_state(state)
    return state


def ticked(
    runner: AssetRunner,
    state: InstigatorState,
    status: TickStatus,
    *,
    runs: list[str] | None = None,
) -> None:
    failed = status is TickStatus.FAILURE
    error = SerializableErrorInfo("it broke\nand more", [], None) if failed else None
    runner.instance.create_tick(
        TickData(
            state.instigator_origin_id,
            state.instigator_name,
            InstigatorType.SCHEDULE,
            status,
            DUE.timestamp(),
            run_ids=runs or [],
            error=error,
            selector_id=state.selector_id,
        )
    )


def titles(runner: AssetRunner, schedule: dg.ScheduleDefinition, now: datetime = NOW) -> list[str]:
    return [late.title for late in find_late(runner.instance, schedule, now=now)]


def test_a_schedule_that_is_off_is_never_late(
    runner: AssetRunner, daily: dg.ScheduleDefinition
) -> None:
    assert titles(runner, daily) == []
    turned_on(runner, daily, since=DUE - timedelta(days=3), location="another")
    assert titles(runner, daily) == []


def test_a_tick_that_did_not_come_is_missing_after_a_while(
    runner: AssetRunner, daily: dg.ScheduleDefinition
) -> None:
    turned_on(runner, daily, since=DUE - timedelta(hours=1))
    assert titles(runner, daily, DUE + LATE - timedelta(seconds=1)) == []
    assert titles(runner, daily) == [f"{daily.name}: the tick of 2026-11-20 06:00 UTC is missing"]


def test_a_tick_before_the_schedule_was_turned_on_is_not_missed(
    runner: AssetRunner, daily: dg.ScheduleDefinition
) -> None:
    turned_on(runner, daily, since=DUE + timedelta(minutes=1))
    assert titles(runner, daily) == []


@pytest.mark.parametrize("status", [TickStatus.SUCCESS, TickStatus.SKIPPED])
def test_a_tick_that_came_is_not_late(
    runner: AssetRunner, daily: dg.ScheduleDefinition, status: TickStatus
) -> None:
    ticked(runner, turned_on(runner, daily, since=DUE - timedelta(days=3)), status)
    assert titles(runner, daily) == []


def test_a_tick_that_failed_says_why(runner: AssetRunner, daily: dg.ScheduleDefinition) -> None:
    ticked(runner, turned_on(runner, daily, since=DUE - timedelta(days=3)), TickStatus.FAILURE)
    assert titles(runner, daily) == [
        f"{daily.name}: the tick of 2026-11-20 06:00 UTC failed: it broke"
    ]


@pytest.mark.parametrize(
    ("status", "now", "said"),
    [
        (dg.DagsterRunStatus.STARTING, NOW, ["the run of 2026-11-20 06:00 UTC has not begun"]),
        (dg.DagsterRunStatus.STARTED, DUE + LONG, []),
        (
            dg.DagsterRunStatus.STARTED,
            DUE + LONG + timedelta(seconds=1),
            ["the run of 2026-11-20 06:00 UTC has not ended"],
        ),
        (dg.DagsterRunStatus.SUCCESS, DUE + timedelta(hours=23), []),
        (dg.DagsterRunStatus.FAILURE, DUE + timedelta(hours=23), []),
    ],
)
def test_a_run_that_hangs_is_late(
    runner: AssetRunner,
    daily: dg.ScheduleDefinition,
    status: dg.DagsterRunStatus,
    now: datetime,
    said: list[str],
) -> None:
    job = runner.definitions(runner.write(THREE)).resolve_job_def(runner.keys.job)
    run = runner.instance.create_run_for_job(job, status=status)
    state = turned_on(runner, daily, since=DUE - timedelta(days=3))
    ticked(runner, state, TickStatus.SUCCESS, runs=[run.run_id])
    assert titles(runner, daily, now) == [f"{daily.name}: {each}" for each in said]


def test_a_late_schedule_gives_one_alert(
    runner: AssetRunner, lasting: dg.DagsterInstance, webhook: Receiver, sender: AlertSender
) -> None:
    runner.instance = lasting
    now = datetime.now(UTC)
    far = f"{(now.hour + 12) % 24}"  # so that no other tick gets late while this runs
    daily = build_schedule(runner.write(f"{THREE}schedule: {{cron: '0 {far} * * *'}}\n"))
    assert daily is not None
    turned_on(runner, daily, since=now - timedelta(days=3))
    on_late, cursor = build_alerts([daily], running=True)[1], None
    for _ in range(2):
        context = dg.build_sensor_context(
            instance=runner.instance, cursor=cursor, resources={"alert_sender": sender}
        )
        cursor = on_late.evaluate_tick(context).cursor
    (body,) = webhook.bodies
    assert body["kind"] == "schedule_late"
    assert body["title"].endswith("is missing")
    assert body["links"] == {
        "schedule": f"https://dagster.example/locations/flux_pipeline/schedules/{daily.name}"
    }
