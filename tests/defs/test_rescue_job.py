"""The rescue as Dagster runs it: a job that finishes what was left, and the schedule before it."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg

from flux_pipeline.defs.rescue_job import RESCUE, build_rescue_job
from flux_pipeline.ledger.base import Claimed, Intent, State
from flux_pipeline.ledger.codec import dump_request
from flux_pipeline.ledger.open import open_ledger
from tests.defs.asset_runner import QUIET, AssetRunner

TICK = datetime(2026, 11, 22, 20, 10, tzinfo=UTC)


def leave_unfinished(runner: AssetRunner) -> str:
    """A request whose intent was written an hour ago, by a worker that is dead."""
    prompt_set = runner.write("prompts: {a: a castle}")
    (request,) = prompt_set.requests(["a"])
    sha = request.request_sha256
    intent = Intent(sha, runner.name, "run-0", 3000, dump_request(request))
    url = f"sqlite:///{runner.folder}/ledger.db"
    with open_ledger(url, clock=lambda: TICK.timestamp() - 3600) as ledger:
        assert isinstance(ledger.claim(intent, holder="dead"), Claimed)
    return sha


def evaluate(runner: AssetRunner) -> Any:
    _, schedule = build_rescue_job()
    with dg.build_schedule_context(
        scheduled_execution_time=TICK, resources={"image_producer": runner.resource}
    ) as context:
        return schedule.evaluate_tick(context)


def test_the_schedule_runs_every_ten_minutes_from_the_start(runner: AssetRunner) -> None:
    prompt_set = runner.write("prompts: {a: a castle}")

    (schedule,) = [
        each
        for each in runner.definitions(prompt_set).schedules or ()
        if isinstance(each, dg.ScheduleDefinition) and each.job_name == RESCUE
    ]

    assert schedule.cron_schedule == "*/10 * * * *"
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING


def test_a_tick_with_nothing_left_starts_no_run(runner: AssetRunner) -> None:
    tick = evaluate(runner)

    assert not tick.run_requests
    assert tick.skip_message == "Nothing was left."


def test_a_tick_that_finds_something_starts_one_run(runner: AssetRunner) -> None:
    leave_unfinished(runner)

    (request,) = evaluate(runner).run_requests

    assert request.run_key == TICK.isoformat()


def test_the_job_ends_what_was_left_and_creates_nothing(runner: AssetRunner) -> None:
    sha = leave_unfinished(runner)
    prompt_set = runner.write("prompts: {a: a castle}")

    result = (
        runner.definitions(prompt_set)
        .resolve_job_def(RESCUE)
        .execute_in_process(instance=runner.instance, run_config=QUIET)
    )

    assert result.success
    with open_ledger(f"sqlite:///{runner.folder}/ledger.db") as ledger:
        assert ledger.find([sha])[sha].state is not State.INTENT
    assert runner.usage().creates_received == 0
