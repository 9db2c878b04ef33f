"""What a run says besides its partitions' events: tags, lines of progress, what is gone."""

from collections.abc import Mapping

import dagster as dg
import pytest

from flux_pipeline.defs.events import SetEvents
from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.produce import producer
from tests.defs.asset_runner import SLOW, AssetRunner

TWO = "prompts: {castle: a castle, moon: the moon}"


def tags(runner: AssetRunner, result: dg.ExecuteInProcessResult) -> Mapping[str, str]:
    run = runner.instance.get_run_by_id(result.run_id)
    assert run is not None
    return {name: value for name, value in run.tags.items() if name.startswith("flux/")}


def test_a_run_is_tagged_with_set_model_estimate_and_cost(runner: AssetRunner) -> None:
    result = runner.run(runner.write(TWO))
    assert tags(runner, result) == {
        "flux/prompt_set": runner.name,
        "flux/model": "lucataco/flux-schnell-lora",
        "flux/estimate_usd": "0.0060",
        "flux/cost_usd": "0.0060",
    }
    again = tags(runner, runner.run(runner.write(TWO)))
    assert (again["flux/estimate_usd"], again["flux/cost_usd"]) == ("0.0060", "0.0000")


def test_a_run_that_fails_says_what_it_spent(runner: AssetRunner) -> None:
    runner.serve(FaultPlan(outcome={"failed_permanent": 1.0}, only_prompts="moon", cap=100))
    result = runner.run(runner.write(TWO), raise_on_error=False)
    assert not result.success
    assert float(tags(runner, result)["flux/cost_usd"]) >= 0.003


def test_a_run_that_is_killed_was_tagged_with_what_it_had_spent_by_then(
    runner: AssetRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer, "SAY_EVERY", 0.05)
    runner.options = SLOW
    tagged: list[str] = []
    add = runner.instance.add_run_tags

    def noted(run_id: str, new_tags: Mapping[str, str]) -> None:
        tagged.append(new_tags.get("flux/cost_usd", ""))
        add(run_id, new_tags)
        if tagged[-1] == "0.0060":  # before its end, which a killed run does not come to
            runner.speed_up()

    monkeypatch.setattr(runner.instance, "add_run_tags", noted)
    runner.run(runner.write(TWO))
    assert tagged[0] == "0"
    assert "0.0060" in tagged[:-1]


def test_partitions_that_are_gone_from_the_file_are_named_once_a_run(runner: AssetRunner) -> None:
    runner.run(runner.write(TWO))
    result = runner.run(runner.write("prompts: {castle: a castle}"))
    (gone,) = result.filter_events(lambda event: event.is_asset_observation)
    observation = gone.asset_observation_data.asset_observation
    assert observation.asset_key == runner.keys.prompts
    assert observation.description == "removed: moon; the pictures stay"
    assert observation.metadata["flux/removed_partitions"].value == ["moon"]
    assert len(list((runner.folder / "store/images").rglob("*.webp"))) == 2
    assert runner.metadata("gallery")["dagster/row_count"] == 2


def progress(runner: AssetRunner, run_id: str) -> list[str]:
    """The lines of a run's log that say how far it is."""
    said = [entry.user_message for entry in runner.instance.all_logs(run_id)]
    return [line for line in said if "images, " in line and "USD" in line]


def test_a_run_that_waits_says_so_again_and_again(
    runner: AssetRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer, "SAY_EVERY", 0.05)
    runner.options = SLOW
    say = SetEvents._log_progress
    lines: list[str] = []

    def heard(self: SetEvents, made_by: producer.Producer, line: str) -> None:
        say(self, made_by, line)
        lines.append(line)
        if sum("2 at the provider" in each for each in lines) == 3:
            runner.speed_up()

    monkeypatch.setattr(SetEvents, "_log_progress", heard)
    result = runner.run(runner.write(TWO))
    assert progress(runner, result.run_id) == lines


def test_a_run_says_nothing_once_a_poll(
    runner: AssetRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer, "SAY_EVERY", 3600.0)
    runner.serve(FaultPlan(outcome={"null_output_once": 1.0}))
    result = runner.run(runner.write(TWO))
    assert runner.usage().requests_by_route["GET /v1/predictions/{id}"] >= 2
    assert progress(runner, result.run_id) == []


def test_a_partition_has_at_most_four_events(runner: AssetRunner) -> None:
    prompts = ", ".join(f"p{number}: number {number}" for number in range(3))
    result = runner.run(runner.write(f"prompts: {{{prompts}}}"))
    ours = [
        event.event_type_value
        for event in result.all_events
        if event.event_type_value in {"ASSET_MATERIALIZATION", "ASSET_CHECK_EVALUATION"}
        and "p2" in (event.partition, getattr(event.event_specific_data, "partition", None))
    ]
    # Dagster plans each of the assets besides.
    assert sorted(ours) == [
        "ASSET_CHECK_EVALUATION",
        "ASSET_MATERIALIZATION",
        "ASSET_MATERIALIZATION",
    ]


def test_the_failed_partitions_alone_can_be_made_again(runner: AssetRunner) -> None:
    runner.serve(FaultPlan(outcome={"failed_pa": 1.0}, only_prompts="moon", cap=100))
    winter = runner.write(TWO)
    assert not runner.run(winter, raise_on_error=False).success
    before = runner.usage().creates_accepted, runner.event("images", "castle")
    runner.serve(FaultPlan())
    failed = [key for key, status in runner.statuses(winter).items() if status == "FAILED"]
    assert failed == ["moon"]
    assert runner.run(winter, keys=[failed[0], failed[0]]).success
    assert set(runner.statuses(winter).values()) == {"MATERIALIZED"}
    assert runner.usage().creates_accepted == before[0] + 1
    assert runner.event("images", "castle") == before[1]
