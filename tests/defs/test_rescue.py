"""The rescue as Dagster runs it: a job that finishes what was left, and the schedule before it."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg

from flux_pipeline.defs.rescue import RESCUE, build_rescue
from flux_pipeline.ledger.base import Claimed, Intent, State
from flux_pipeline.ledger.codec import dump_request
from flux_pipeline.ledger.open import open_ledger
from tests.defs.bench import QUIET, Bench

TICK = datetime(2026, 11, 22, 20, 10, tzinfo=UTC)


def left_behind(bench: Bench) -> str:
    """A request whose intent was written an hour ago, by a worker that is dead."""
    prompt_set = bench.write("prompts: {a: a castle}")
    (request,) = prompt_set.requests(["a"])
    sha = request.request_sha256
    intent = Intent(sha, bench.name, "run-0", 3000, dump_request(request))
    url = f"sqlite:///{bench.folder}/ledger.db"
    with open_ledger(url, clock=lambda: TICK.timestamp() - 3600) as ledger:
        assert isinstance(ledger.claim(intent, holder="dead"), Claimed)
    return sha


def evaluate(bench: Bench) -> Any:
    _, schedule = build_rescue()
    with dg.build_schedule_context(
        scheduled_execution_time=TICK, resources={"image_producer": bench.resource}
    ) as context:
        return schedule.evaluate_tick(context)


def test_the_schedule_runs_every_ten_minutes_from_the_start(bench: Bench) -> None:
    prompt_set = bench.write("prompts: {a: a castle}")

    (schedule,) = [
        each
        for each in bench.definitions(prompt_set).schedules or ()
        if isinstance(each, dg.ScheduleDefinition) and each.job_name == RESCUE
    ]

    assert schedule.cron_schedule == "*/10 * * * *"
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING


def test_a_tick_with_nothing_left_starts_no_run(bench: Bench) -> None:
    tick = evaluate(bench)

    assert not tick.run_requests
    assert tick.skip_message == "Nothing was left."


def test_a_tick_that_finds_something_starts_one_run(bench: Bench) -> None:
    left_behind(bench)

    (request,) = evaluate(bench).run_requests

    assert request.run_key == TICK.isoformat()


def test_the_job_ends_what_was_left_and_creates_nothing(bench: Bench) -> None:
    sha = left_behind(bench)
    prompt_set = bench.write("prompts: {a: a castle}")

    result = (
        bench.definitions(prompt_set)
        .resolve_job_def(RESCUE)
        .execute_in_process(instance=bench.instance, run_config=QUIET)
    )

    assert result.success
    with open_ledger(f"sqlite:///{bench.folder}/ledger.db") as ledger:
        assert ledger.find([sha])[sha].state is not State.INTENT
    assert bench.charged().creates_received == 0
