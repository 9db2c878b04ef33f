"""What a run says besides its partitions' events: tags, lines of progress, what is gone."""

from collections.abc import Mapping

import dagster as dg
import pytest

from flux_pipeline.defs.events import SetEvents
from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.produce import producer
from tests.defs.bench import WAITING, Bench

TWO = "prompts: {castle: a castle, moon: the moon}"


def tags(bench: Bench, result: dg.ExecuteInProcessResult) -> Mapping[str, str]:
    run = bench.instance.get_run_by_id(result.run_id)
    assert run is not None
    return {name: value for name, value in run.tags.items() if name.startswith("flux/")}


def test_a_run_is_tagged_with_set_model_estimate_and_cost(bench: Bench) -> None:
    result = bench.run(bench.write(TWO))
    assert tags(bench, result) == {
        "flux/prompt_set": bench.name,
        "flux/model": "lucataco/flux-schnell-lora",
        "flux/estimate_usd": "0.0060",
        "flux/cost_usd": "0.0060",
    }
    again = tags(bench, bench.run(bench.write(TWO)))
    assert (again["flux/estimate_usd"], again["flux/cost_usd"]) == ("0.0060", "0.0000")


def test_a_run_that_fails_says_what_it_spent(bench: Bench) -> None:
    bench.serve(FaultPlan(outcome={"failed_permanent": 1.0}, only_prompts="moon", cap=100))
    result = bench.run(bench.write(TWO), raise_on_error=False)
    assert not result.success
    assert float(tags(bench, result)["flux/cost_usd"]) >= 0.003


def test_a_run_that_is_killed_was_tagged_with_what_it_had_spent_by_then(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer, "SAY_EVERY", 0.05)
    bench.options = WAITING
    tagged: list[str] = []
    add = bench.instance.add_run_tags

    def noted(run_id: str, new_tags: Mapping[str, str]) -> None:
        tagged.append(new_tags.get("flux/cost_usd", ""))
        add(run_id, new_tags)
        if tagged[-1] == "0.0060":  # before its end, which a killed run does not come to
            bench.hasten()

    monkeypatch.setattr(bench.instance, "add_run_tags", noted)
    bench.run(bench.write(TWO))
    assert tagged[0] == "0"
    assert "0.0060" in tagged[:-1]


def test_partitions_that_are_gone_from_the_file_are_named_once_a_run(bench: Bench) -> None:
    bench.run(bench.write(TWO))
    result = bench.run(bench.write("prompts: {castle: a castle}"))
    (gone,) = result.filter_events(lambda event: event.is_asset_observation)
    observation = gone.asset_observation_data.asset_observation
    assert observation.asset_key == bench.keys.prompts
    assert observation.description == "removed: moon; the pictures stay"
    assert observation.metadata["flux/removed_partitions"].value == ["moon"]
    assert len(list((bench.folder / "store/images").rglob("*.webp"))) == 2
    assert bench.shown("gallery")["dagster/row_count"] == 2


def progress(bench: Bench, run_id: str) -> list[str]:
    """The lines of a run's log that say how far it is."""
    said = [entry.user_message for entry in bench.instance.all_logs(run_id)]
    return [line for line in said if "images, " in line and "USD" in line]


def test_a_run_that_waits_says_so_again_and_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer, "SAY_EVERY", 0.05)
    bench.options = WAITING
    say = SetEvents._say
    lines: list[str] = []

    def heard(self: SetEvents, made_by: producer.Producer, line: str) -> None:
        say(self, made_by, line)
        lines.append(line)
        if sum("2 at the provider" in each for each in lines) == 3:
            bench.hasten()

    monkeypatch.setattr(SetEvents, "_say", heard)
    result = bench.run(bench.write(TWO))
    assert progress(bench, result.run_id) == lines


def test_a_run_says_nothing_once_a_poll(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer, "SAY_EVERY", 3600.0)
    bench.serve(FaultPlan(outcome={"null_output_once": 1.0}))
    result = bench.run(bench.write(TWO))
    assert bench.charged().requests_by_route["GET /v1/predictions/{id}"] >= 2
    assert progress(bench, result.run_id) == []


def test_a_partition_has_at_most_four_events(bench: Bench) -> None:
    prompts = ", ".join(f"p{number}: number {number}" for number in range(20))
    result = bench.run(bench.write(f"prompts: {{{prompts}}}"))
    ours = [
        event.event_type_value
        for event in result.all_events
        if event.event_type_value in {"ASSET_MATERIALIZATION", "ASSET_CHECK_EVALUATION"}
        and "p7" in (event.partition, getattr(event.event_specific_data, "partition", None))
    ]
    # Dagster plans each of the assets besides.
    assert sorted(ours) == [
        "ASSET_CHECK_EVALUATION",
        "ASSET_MATERIALIZATION",
        "ASSET_MATERIALIZATION",
    ]


def test_the_failed_partitions_alone_can_be_made_again(bench: Bench) -> None:
    bench.serve(FaultPlan(outcome={"failed_pa": 1.0}, only_prompts="moon", cap=100))
    winter = bench.write(TWO)
    assert not bench.run(winter, raise_on_error=False).success
    before = bench.charged().creates_accepted, bench.event("images", "castle")
    bench.serve(FaultPlan())
    failed = [key for key, status in bench.made(winter).items() if status == "FAILED"]
    assert failed == ["moon"]
    assert bench.run(winter, keys=[failed[0], failed[0]]).success
    assert set(bench.made(winter).values()) == {"MATERIALIZED"}
    assert bench.charged().creates_accepted == before[0] + 1
    assert bench.event("images", "castle") == before[1]
