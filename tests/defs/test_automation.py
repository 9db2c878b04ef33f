"""Automation: what runs without a person, and only that."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._utils.schedules import schedule_execution_time_iterator

from flux_pipeline.defs.automation import (
    build_automation,
    build_conditions,
    build_freshness,
    build_schedule,
    build_shared_assets_job,
    days_due,
)
from flux_pipeline.defs.build import build_definitions
from flux_pipeline.defs.partitions import due_times
from flux_pipeline.prompts import PromptSet, build_prompt_set
from flux_pipeline.resources import ImageProducer
from tests.defs.asset_runner import AssetRunner

MODEL = "lucataco/flux-schnell-lora"
DAILY = {"cron": "0 6 * * *", "timezone": "Asia/Shanghai"}


def a_set(**document: object) -> PromptSet:
    document = {"model": MODEL, "prompts": {"a": "a", "b": "b"}, **document}
    return build_prompt_set("winter", document)


@pytest.fixture(scope="module")
def home() -> Iterator[dg.DagsterInstance]:
    """Schedules open their instance themselves, which an ephemeral one does not allow."""
    with dg.DagsterInstance.local_temp() as instance:
        yield instance


def tick(home: dg.DagsterInstance, prompt_set: PromptSet, at: datetime) -> list[dg.RunRequest]:
    """What the daemon gets: the job is resolved, so its partitions must fit."""
    definitions = build_definitions([prompt_set], ImageProducer())
    schedule = definitions.resolve_schedule_def(f"make_{prompt_set.name}_on_time")
    with dg.build_schedule_context(
        instance=home,
        scheduled_execution_time=at,
        repository_def=definitions.get_repository_def(),
    ) as context:
        return list(schedule.evaluate_tick(context).run_requests or [])


def test_no_schedule_in_the_file_is_no_schedule() -> None:
    assert build_schedule(a_set()) is None


def test_a_schedule_in_the_file_runs_from_the_start() -> None:
    schedule = build_schedule(a_set(schedule=DAILY))
    assert schedule is not None
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 6 * * *", "Asia/Shanghai")
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    assert schedule.job_name == "make_winter"


def test_a_schedule_that_the_file_switches_off_waits_to_be_switched_on() -> None:
    schedule = build_schedule(a_set(schedule=DAILY, automation="none"))
    assert schedule is not None
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED


def test_a_tick_asks_for_the_whole_set_in_one_run(home: dg.DagsterInstance) -> None:
    (request,) = tick(home, a_set(schedule=DAILY), datetime(2026, 11, 3, 6, tzinfo=UTC))
    assert request.tags["dagster/asset_partition_range_start"] == "a"
    assert request.tags["dagster/asset_partition_range_end"] == "b"


def test_a_tick_asks_for_many_shards_in_several_runs_with_run_keys_of_their_own(
    home: dg.DagsterInstance,
) -> None:
    shards = a_set(schedule=DAILY, partitions={"by": "shard", "count": 250})
    requests = tick(home, shards, datetime(2026, 11, 3, 6, tzinfo=UTC))
    starts = [request.tags["dagster/asset_partition_range_start"] for request in requests]
    assert starts == ["shard-0000", "shard-0100", "shard-0200"]
    again = tick(home, shards, datetime(2026, 11, 3, 6, tzinfo=UTC))
    later = tick(home, shards, datetime(2026, 11, 4, 6, tzinfo=UTC))
    keys = [request.run_key for request in requests]
    assert keys == [request.run_key for request in again]
    assert not set(keys) & {request.run_key for request in later}
    assert len(set(keys)) == 3


@pytest.mark.parametrize(
    ("hour", "day"), [(5, "2026-11-03"), (15, "2026-11-03"), (16, "2026-11-04")]
)
def test_a_tick_asks_for_the_day_it_is_where_the_file_lives(
    home: dg.DagsterInstance, hour: int, day: str
) -> None:
    diary = a_set(
        schedule=DAILY,
        partitions={"by": "day", "start": "2026-11-01", "timezone": "Asia/Shanghai"},
    )
    (request,) = tick(home, diary, datetime(2026, 11, 3, hour, 30, tzinfo=UTC))
    assert request.partition_key == day


def test_a_tick_before_the_first_day_asks_for_nothing(home: dg.DagsterInstance) -> None:
    diary = a_set(schedule=DAILY, partitions={"by": "day", "start": "2026-11-01"})
    assert tick(home, diary, datetime(2026, 10, 31, 23, tzinfo=ZoneInfo("UTC"))) == []


EVERY_DAY = {"by": "day", "start": "2026-11-01", "timezone": "Asia/Shanghai"}


@pytest.mark.parametrize(
    ("made", "asked"),
    [
        ([], ["10"]),
        (["09"], ["10"]),
        (["07"], ["08", "09", "10"]),
        (["05", "09"], ["10"]),
        (["05", "10"], ["06", "07", "08", "09", "10"]),
        (["01"], ["03", "04", "05", "06", "07", "08", "09", "10"]),
    ],
    ids=["the first", "none missed", "two missed", "one failed", "its own again", "a long outage"],
)
def test_days_whose_tick_was_missed_are_asked_for_by_the_next(
    made: list[str], asked: list[str]
) -> None:
    diary = a_set(schedule=DAILY, partitions=EVERY_DAY)
    at = datetime(2026, 11, 10, 6, tzinfo=ZoneInfo("Asia/Shanghai"))
    days = days_due(diary, at, [f"2026-11-{day}" for day in made])
    assert days == [f"2026-11-{day}" for day in asked]


def test_a_weekly_schedule_asks_for_the_days_of_its_own_ticks_alone() -> None:
    weekly = {"cron": "0 6 * * 1", "timezone": "Asia/Shanghai"}
    diary = a_set(schedule=weekly, partitions=EVERY_DAY)
    monday = datetime(2026, 11, 16, 6, tzinfo=ZoneInfo("Asia/Shanghai"))
    assert days_due(diary, monday, ["2026-11-02"]) == ["2026-11-09", "2026-11-16"]


def test_a_tick_asks_for_missed_days_with_run_keys_that_are_the_same_each_time(
    home: dg.DagsterInstance,
) -> None:
    diary = a_set(schedule={"cron": "0 6 * * *"}, partitions=EVERY_DAY)
    images = dg.AssetKey(["winter", "images"])
    home.report_runless_asset_event(dg.AssetMaterialization(images, partition="2026-11-03"))
    first, second = (tick(home, diary, datetime(2026, 11, 5, 6, tzinfo=UTC)) for _ in range(2))
    assert [request.partition_key for request in first] == ["2026-11-04", "2026-11-05"]
    assert [request.run_key for request in first] == [request.run_key for request in second]


def test_a_day_that_was_made_and_not_published_is_asked_for_again(home: dg.DagsterInstance) -> None:
    publish = {"variants": {"web": {"width": 16}}, "name": "{date}-{name}-{variant}.{format}"}
    diary = a_set(
        schedule={"cron": "0 6 * * *"},
        partitions=EVERY_DAY,
        publish=publish,
        prompts={"diary": "a page of {date}"},
    )
    for asset, day in (("images", "03"), ("published", "03"), ("images", "04")):
        key = dg.AssetKey(["winter", asset])
        home.report_runless_asset_event(dg.AssetMaterialization(key, partition=f"2026-12-{day}"))
    asked = tick(home, diary, datetime(2026, 12, 5, 6, tzinfo=UTC))
    assert [request.partition_key for request in asked] == ["2026-12-04", "2026-12-05"]


@pytest.mark.parametrize(
    ("cron", "zone", "night", "due"),
    [
        # The hour from 2 to 3 is skipped in spring; in autumn the second of two alike counts.
        ("30 2 * * *", "Europe/Berlin", "2027-03-28", "2027-03-28 01:00"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25", "2026-10-25 01:30"),
        ("30 2 * * *", "America/New_York", "2027-03-14", "2027-03-14 07:00"),
        ("30 1 * * *", "America/New_York", "2026-11-01", "2026-11-01 06:30"),
        ("30 2 * * *", "Asia/Shanghai", "2026-11-01", "2026-10-31 18:30"),
    ],
)
def test_a_tick_comes_once_a_day_when_clocks_change(
    cron: str, zone: str, night: str, due: str
) -> None:
    """By the iterator that Dagster's scheduler uses, and by ours; ``due`` is UTC."""
    day = datetime.fromisoformat(night).replace(tzinfo=ZoneInfo(zone))
    midnight = day + timedelta(days=1)
    ticks = schedule_execution_time_iterator(day.timestamp(), cron, zone)
    theirs = list(takewhile(lambda at: at.timestamp() < midnight.timestamp(), ticks))
    ours = list(takewhile(lambda at: at >= day, due_times(cron, zone, midnight)))
    assert [f"{at.astimezone(UTC):%Y-%m-%d %H:%M}" for at in theirs] == [due]
    assert [at.astimezone(UTC) for at in reversed(ours)] == [at.astimezone(UTC) for at in theirs]


def test_freshness_is_what_the_schedule_promises() -> None:
    assert build_freshness(a_set()) is None
    assert build_freshness(a_set(schedule=DAILY, automation="none")) is None
    daily = build_freshness(a_set(schedule=DAILY))
    assert daily == dg.FreshnessPolicy.cron("0 7 * * *", timedelta(hours=1), "Asia/Shanghai")
    for cron, hours in (("@daily", 25), ("0 */6 * * *", 7), ("30 23 * * 1-5", 73)):
        often = build_freshness(a_set(schedule={"cron": cron, "timezone": "Asia/Shanghai"}))
        assert often == dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=hours))


def test_sets_of_one_schedule_share_its_freshness_which_dagster_takes_long_to_build() -> None:
    one, other = a_set(schedule=DAILY), a_set(schedule={**DAILY}, prompts={"c": "c"})
    assert build_freshness(one) is build_freshness(other)
    elsewhere = a_set(schedule={**DAILY, "timezone": "Europe/Berlin"})
    assert build_freshness(elsewhere) != build_freshness(one)


@pytest.mark.parametrize("cron", ["0 6 29 2 *", "0 6 28,1 * *", "* * * * *", "0 6 * * 1-5"])
def test_every_cron_line_has_a_freshness_policy_that_loads(cron: str) -> None:
    assert build_freshness(a_set(schedule={"cron": cron, "timezone": "Europe/Berlin"}))


def test_runs_of_the_job_are_tagged_from_the_start() -> None:
    job = build_definitions([a_set()], ImageProducer()).resolve_job_def("make_winter")
    assert job.run_tags == {"flux/prompt_set": "winter", "flux/model": MODEL}


def test_nothing_but_on_change_has_conditions() -> None:
    for document in ({}, {"schedule": DAILY}, {"automation": "none"}):
        conditions = build_conditions(a_set(**document))
        assert (conditions.prompts, conditions.images, conditions.gallery) == (None, None, None)
        assert conditions.published is None


class Ticks:
    """The automation of one prompt set, evaluated time after time as its file changes."""

    def __init__(self, runner: AssetRunner) -> None:
        self.runner = runner
        self.cursor: dg.AutomationEvaluationCursor | None = None

    def ask(self, prompt_set: PromptSet) -> dict[str, set[str]]:
        """What is asked for now: assets and their partitions."""
        result = dg.evaluate_automation_conditions(
            defs=self.runner.definitions(prompt_set),
            instance=self.runner.instance,
            asset_selection=dg.AssetSelection.groups(self.runner.name),
            cursor=self.cursor,
        )
        self.cursor = result.cursor
        asked: dict[str, set[str]] = {}
        for asset in ("prompts", "images", "published"):
            keys = result.get_requested_partitions(dg.AssetKey([self.runner.name, asset]))
            if keys:
                asked[asset] = {str(key) for key in keys}
        return asked


CHANGING = "automation: on_change\n"


def test_what_is_missing_is_asked_for_once(runner: AssetRunner) -> None:
    winter = runner.write(CHANGING + "prompts: {castle: a castle, moon: the moon}")
    ticks = Ticks(runner)
    both = {"castle", "moon"}
    assert ticks.ask(winter) == {"prompts": both, "images": both}
    assert ticks.ask(winter) == {}
    runner.run(winter)
    assert ticks.ask(winter) == {}
    assert ticks.ask(winter) == {}


def test_an_edit_asks_for_the_edited_partition_alone(runner: AssetRunner) -> None:
    winter = runner.write(CHANGING + "prompts: {castle: a castle, moon: the moon}")
    runner.run(winter)
    ticks = Ticks(runner)
    assert ticks.ask(winter) == {}
    edited = runner.write(CHANGING + "prompts: {castle: a castle, moon: the full moon}")
    assert ticks.ask(edited) == {"prompts": {"castle", "moon"}}
    runner.run(edited, "prompts")
    assert ticks.ask(edited) == {"images": {"moon"}}
    runner.run(edited, "images", keys=["moon", "moon"])
    assert ticks.ask(edited) == {}
    assert runner.usage().creates_accepted == 3


def test_reading_the_prompts_again_asks_for_no_image(runner: AssetRunner) -> None:
    winter = runner.write(CHANGING + "prompts: {castle: a castle}")
    runner.run(winter)
    ticks = Ticks(runner)
    ticks.ask(winter)
    runner.run(winter, "prompts")
    assert ticks.ask(winter) == {}


def test_what_is_published_is_asked_for_with_its_images_and_alone_after_another_pick(
    runner: AssetRunner,
) -> None:
    text = (
        CHANGING + "choose: picks.csv\nundecided: first\npublish: {variants: {web: {width: 16}}}\n"
        "prompts: {castle: a castle, moon: the moon}"
    )
    winter, both = runner.write(text), {"castle", "moon"}
    ticks = Ticks(runner)
    assert ticks.ask(winter) == {"prompts": both, "images": both, "published": both}
    runner.run(winter)
    assert ticks.ask(winter) == {}
    (runner.folder / "picks.csv").write_text("prompt,take\nmoon,1\n")
    assert ticks.ask(winter) == {"published": both}
    runner.run(winter, "published")
    assert ticks.ask(winter) == {}


def test_the_shared_assets_are_refreshed_every_hour() -> None:
    job, schedule = build_shared_assets_job()
    assert schedule.job_name == job.name == "refresh_shared_assets"
    assert schedule.cron_schedule == "0 * * * *"
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING


def test_the_automation_sensor_runs_from_the_start_and_looks_after_on_change_alone() -> None:
    sets = {
        name: build_prompt_set(name, {"model": MODEL, "prompts": {"a": "a"}, **more})
        for name, more in {"summer": {}, "winter": {"automation": "on_change"}}.items()
    }
    sensor = build_automation(sets.values())
    assert sensor is not None
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    graph = build_definitions(sets.values(), ImageProducer()).resolve_asset_graph()
    assert {key.path[0] for key in sensor.asset_selection.resolve(graph)} == {"winter"}
    assert build_automation([sets["summer"]]) is None
