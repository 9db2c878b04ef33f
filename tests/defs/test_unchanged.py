"""Sets of which everything is made, in one run: its events are those of each set's own run."""

from collections import Counter

import dagster as dg

from flux_pipeline.defs.downstream import NO_FAILURE
from flux_pipeline.defs.keys import SetKeys
from flux_pipeline.defs.launch import join_launched, launch_set, launch_together
from flux_pipeline.defs.unchanged import CONFIRM_UNCHANGED, unchanged_config
from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.prompts import PromptSet, load_prompt_set
from tests.defs.asset_runner import HEAD, AssetRunner

MOST_EVENTS_OF_A_SET = 12 + 1 + 3 * 2
"""Twelve checks, the gallery, and three events for each of two partitions."""
MOST_EVENTS_OF_A_RUN = 9


def two_sets(runner: AssetRunner) -> list[PromptSet]:
    path = runner.folder / f"{runner.name}_more.yaml"
    path.write_text(HEAD + "prompts: {boat: a boat, ship: a ship}")
    return [runner.write("prompts: {castle: a castle}"), load_prompt_set(path)]


def said(instance: dg.DagsterInstance, run_id: str) -> list[tuple[object, ...]]:
    """Materializations and evaluations of a run, without what is another in each run."""
    found: list[tuple[object, ...]] = []
    for entry in instance.all_logs(run_id):
        event = entry.dagster_event
        if made := entry.asset_materialization:
            tags = {name for name in made.tags or {} if "event_pointer" not in name}
            kept = (made.description, frozenset(made.metadata), frozenset(tags))
            found.append((made.asset_key, made.partition, *kept))
        elif event and event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            target = check.target_materialization_data
            assert target is not None
            assert target.run_id == run_id
            shown = (check.check_name, check.passed, check.severity, frozenset(check.metadata))
            found.append((check.asset_key, check.partition, *shown))
    return sorted(found, key=repr)


def test_a_set_has_the_events_of_its_own_run_and_few_others(runner: AssetRunner) -> None:
    sets = two_sets(runner)
    definitions, instance = runner.definitions(*sets), runner.instance
    for each in sets:
        launch_set(instance, definitions, each)
    paid = runner.usage().creates_received
    alone = [launch_set(instance, definitions, each)[0].run_id for each in sets]
    done = launch_together(instance, definitions, sets)

    assert {name: each.success for name, each in done.items()} == {x.name: True for x in sets}
    (run_id,) = {each.run_id for each in done.values()}
    own_runs = [event for each in alone for event in said(instance, each)]
    shared = said(instance, run_id)
    assert [each for each in shared if NO_FAILURE not in each] == sorted(own_runs, key=repr)
    assert [each[3] for each in shared if NO_FAILURE in each] == [True, True]
    assert runner.usage().creates_received == paid
    count = len(instance.all_logs(run_id))
    assert count <= MOST_EVENTS_OF_A_RUN + len(sets) * MOST_EVENTS_OF_A_SET
    run = instance.get_run_by_id(run_id)
    assert run is not None
    assert (run.job_name, run.status) == (CONFIRM_UNCHANGED, dg.DagsterRunStatus.SUCCESS)
    assert run.tags["flux/prompt_sets"] == ", ".join(each.name for each in sets)
    assert "flux/prompt_set" not in run.tags


def test_one_that_fails_stops_no_other_and_the_run_says_why(runner: AssetRunner) -> None:
    runner.serve(FaultPlan(outcome={"failed_permanent": 1.0}, only_prompts="castle", cap=100))
    bad, good = two_sets(runner)
    instance = runner.instance

    done = launch_together(instance, runner.definitions(bad, good), [bad, good])

    assert {name: each.success for name, each in done.items()} == {bad.name: False, good.name: True}
    assert done[bad.name].reason.startswith("1 of 1 partition failed\ncastle: ")
    assert "flux/failed_partitions" in done[bad.name].metadata
    assert join_launched({bad.name: done[bad.name]}).reason.startswith(f"{bad.name}: 1 of 1 ")
    assert instance.get_materialized_partitions(SetKeys(good.name).images) == {"boat", "ship"}
    run = instance.get_run_by_id(done[good.name].run_id)
    assert run is not None
    assert run.status is dg.DagsterRunStatus.FAILURE
    # With this the web interface executes it again, for these sets alone.
    assert run.run_config["ops"] == unchanged_config([bad.name, good.name])["ops"]
    checks = Counter(
        (event.asset_check_evaluation_data.check_name, event.asset_check_evaluation_data.passed)
        for entry in instance.all_logs(run.run_id, dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        if (event := entry.dagster_event)
    )
    assert checks["no_partition_failed", True] == checks["no_partition_failed", False] == 1


def test_an_error_of_the_step_itself_is_that_of_every_set(runner: AssetRunner) -> None:
    sets = two_sets(runner)
    of_another = runner.definitions(sets[1])  # which doesn't know the first of them
    done = launch_together(runner.instance, of_another, sets)
    assert not any(each.success for each in done.values())
    assert all("confirm_sets" in each.reason for each in done.values())
