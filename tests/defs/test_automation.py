"""Automation: what runs without a person, and only that."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from flux_pipeline.defs.automation import (
    build_automation,
    build_books,
    build_conditions,
    build_schedule,
)
from flux_pipeline.defs.build import build_definitions
from flux_pipeline.prompts import PromptSet, build_prompt_set
from flux_pipeline.resources import ImageProducer
from tests.defs.bench import Bench

MODEL = "lucataco/flux-schnell-lora"
DAILY = {"cron": "0 6 * * *", "timezone": "Asia/Shanghai"}


def a_set(**document: object) -> PromptSet:
    document = {"model": MODEL, "prompts": {"a": "a", "b": "b"}, **document}
    return build_prompt_set("winter", document)


def tick(prompt_set: PromptSet, at: datetime) -> list[dg.RunRequest]:
    """What the daemon gets: the job is resolved, so its partitions must fit."""
    definitions = build_definitions([prompt_set], ImageProducer())
    schedule = definitions.resolve_schedule_def("make_winter_on_time")
    context = dg.build_schedule_context(
        scheduled_execution_time=at, repository_def=definitions.get_repository_def()
    )
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


def test_a_tick_asks_for_the_whole_set_in_one_run() -> None:
    (request,) = tick(a_set(schedule=DAILY), datetime(2026, 11, 3, 6, tzinfo=UTC))
    assert request.tags["dagster/asset_partition_range_start"] == "a"
    assert request.tags["dagster/asset_partition_range_end"] == "b"


def test_a_tick_asks_for_many_shards_in_several_runs_that_are_told_apart() -> None:
    shards = a_set(schedule=DAILY, partitions={"by": "shard", "count": 250})
    requests = tick(shards, datetime(2026, 11, 3, 6, tzinfo=UTC))
    starts = [request.tags["dagster/asset_partition_range_start"] for request in requests]
    assert starts == ["shard-0000", "shard-0100", "shard-0200"]
    again = tick(shards, datetime(2026, 11, 3, 6, tzinfo=UTC))
    later = tick(shards, datetime(2026, 11, 4, 6, tzinfo=UTC))
    keys = [request.run_key for request in requests]
    assert keys == [request.run_key for request in again]
    assert not set(keys) & {request.run_key for request in later}
    assert len(set(keys)) == 3


@pytest.mark.parametrize(
    ("hour", "day"), [(5, "2026-11-03"), (15, "2026-11-03"), (16, "2026-11-04")]
)
def test_a_tick_asks_for_the_day_it_is_where_the_file_lives(hour: int, day: str) -> None:
    diary = a_set(
        schedule=DAILY,
        partitions={"by": "day", "start": "2026-11-01", "timezone": "Asia/Shanghai"},
    )
    (request,) = tick(diary, datetime(2026, 11, 3, hour, 30, tzinfo=UTC))
    assert request.partition_key == day


def test_a_tick_before_the_first_day_asks_for_nothing() -> None:
    diary = a_set(schedule=DAILY, partitions={"by": "day", "start": "2026-11-01"})
    assert tick(diary, datetime(2026, 10, 31, 23, tzinfo=ZoneInfo("UTC"))) == []


def test_nothing_but_on_change_has_conditions() -> None:
    for document in ({}, {"schedule": DAILY}, {"automation": "none"}):
        conditions = build_conditions(a_set(**document))
        assert (conditions.prompts, conditions.images, conditions.gallery) == (None, None, None)


class Ticks:
    """The automation of one prompt set, evaluated time after time as its file changes."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.cursor: dg.AutomationEvaluationCursor | None = None

    def ask(self, prompt_set: PromptSet) -> dict[str, set[str]]:
        """What is asked for now: assets and their partitions."""
        result = dg.evaluate_automation_conditions(
            defs=self.bench.definitions(prompt_set),
            instance=self.bench.instance,
            asset_selection=dg.AssetSelection.groups(self.bench.name),
            cursor=self.cursor,
        )
        self.cursor = result.cursor
        asked: dict[str, set[str]] = {}
        for asset in ("prompts", "images"):
            keys = result.get_requested_partitions(dg.AssetKey([self.bench.name, asset]))
            if keys:
                asked[asset] = {str(key) for key in keys}
        return asked


CHANGING = "automation: on_change\n"


def test_what_is_missing_is_asked_for_once(bench: Bench) -> None:
    winter = bench.write(CHANGING + "prompts: {castle: a castle, moon: the moon}")
    ticks = Ticks(bench)
    both = {"castle", "moon"}
    assert ticks.ask(winter) == {"prompts": both, "images": both}
    assert ticks.ask(winter) == {}
    bench.run(winter)
    assert ticks.ask(winter) == {}
    assert ticks.ask(winter) == {}


def test_an_edit_asks_for_the_edited_partition_alone(bench: Bench) -> None:
    winter = bench.write(CHANGING + "prompts: {castle: a castle, moon: the moon}")
    bench.run(winter)
    ticks = Ticks(bench)
    assert ticks.ask(winter) == {}
    edited = bench.write(CHANGING + "prompts: {castle: a castle, moon: the full moon}")
    assert ticks.ask(edited) == {"prompts": {"castle", "moon"}}
    bench.run(edited, "prompts")
    assert ticks.ask(edited) == {"images": {"moon"}}
    bench.run(edited, "images", keys=["moon", "moon"])
    assert ticks.ask(edited) == {}
    assert bench.charged().creates_accepted == 3


def test_reading_the_prompts_again_asks_for_no_image(bench: Bench) -> None:
    winter = bench.write(CHANGING + "prompts: {castle: a castle}")
    bench.run(winter)
    ticks = Ticks(bench)
    ticks.ask(winter)
    bench.run(winter, "prompts")
    assert ticks.ask(winter) == {}


def test_the_books_are_kept_every_hour() -> None:
    job, schedule = build_books()
    assert schedule.job_name == job.name == "keep_books"
    assert schedule.cron_schedule == "0 * * * *"
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING


def test_the_automation_sensor_runs_from_the_start() -> None:
    assert build_automation().default_status is dg.DefaultSensorStatus.RUNNING
