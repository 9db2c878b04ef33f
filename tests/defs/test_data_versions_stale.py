"""What is stale after what: partition by partition, and by Dagster's own reckoning.

Written against Dagster's resolver, so that a change of its tags' names or meaning fails here.
"""

from collections.abc import Mapping

import dagster as dg
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.prompts import PromptSet
from tests.defs.asset_runner import AssetRunner

FOLLOW = "images_follow_their_prompts"

TWO = "prompts: {castle: a castle, moon: the moon}"
EDITED = "prompts: {castle: a castle, moon: the full moon}"


def stale(runner: AssetRunner, prompt_set: PromptSet, asset: str) -> Mapping[str, str]:
    """The status of each partition: FRESH, STALE or MISSING."""
    graph = runner.definitions(prompt_set).resolve_asset_graph()
    loading = LoadingContextForTest(runner.instance)
    resolver = CachingStaleStatusResolver(runner.instance, graph, loading)
    key = dg.AssetKey([runner.name, asset])
    if asset == "gallery":
        return {"": resolver.get_status(key).value}
    return {each: resolver.get_status(key, each).value for each in prompt_set.partition_keys()}


def followed(result: dg.ExecuteInProcessResult) -> tuple[bool, Mapping[str, str]]:
    """Whether the images follow their prompts, and which partitions don't, and why."""
    (check,) = (each for each in result.get_asset_check_evaluations() if each.check_name == FOLLOW)
    wrong = check.metadata["flux/wrong"].value
    assert isinstance(wrong, dict)
    return check.passed, wrong


def test_nothing_is_stale_until_an_edit_and_then_the_file_and_the_edited_partition_alone(
    runner: AssetRunner,
) -> None:
    winter = runner.write(TWO)
    assert stale(runner, winter, "images") == {"castle": "MISSING", "moon": "MISSING"}
    runner.run(winter)
    for asset in ("prompts", "images"):
        assert stale(runner, winter, asset) == {"castle": "FRESH", "moon": "FRESH"}
    assert stale(runner, winter, "gallery") == {"": "FRESH"}

    commented = runner.write(f"# the same\n{TWO}")
    runner.run(commented, "prompts")
    assert stale(runner, commented, "images") == {"castle": "FRESH", "moon": "FRESH"}

    edited = runner.write(EDITED)
    assert stale(runner, edited, "prompts") == {"castle": "STALE", "moon": "STALE"}
    assert stale(runner, edited, "images") == {"castle": "FRESH", "moon": "FRESH"}
    runner.run(edited, "prompts")
    assert stale(runner, edited, "prompts") == {"castle": "FRESH", "moon": "FRESH"}
    assert stale(runner, edited, "images") == {"castle": "FRESH", "moon": "STALE"}
    runner.run(edited, "images", keys=["moon", "moon"])
    assert stale(runner, edited, "images") == {"castle": "FRESH", "moon": "FRESH"}


def test_new_images_make_the_gallery_stale(runner: AssetRunner) -> None:
    runner.options = EmulatorOptions(time_scale=0)  # another prompt gives other pixels
    runner.run(runner.write(TWO))
    edited = runner.write(EDITED)
    runner.run(edited, "prompts", "images")
    assert stale(runner, edited, "gallery") == {"": "STALE"}
    runner.run(edited, "gallery")
    assert stale(runner, edited, "gallery") == {"": "FRESH"}


def test_a_new_prompt_is_missing_and_makes_no_other_stale(runner: AssetRunner) -> None:
    runner.run(runner.write(TWO))
    more = runner.write("prompts: {castle: a castle, moon: the moon, zoo: a zoo}")
    runner.run(more, "prompts")
    assert stale(runner, more, "images") == {"castle": "FRESH", "moon": "FRESH", "zoo": "MISSING"}
    runner.run(more, "images")
    assert runner.usage().creates_accepted == 3


def test_prompts_that_were_read_alone_name_the_partitions_that_were_edited(
    runner: AssetRunner,
) -> None:
    assert followed(runner.run(runner.write(TWO))) == (True, {})
    edited = runner.write(EDITED)
    late = {"moon": "its prompts were edited since"}
    assert followed(runner.run(edited, "prompts")) == (False, late)
    # Also where other partitions are made: it speaks of the whole set.
    assert followed(runner.run(edited, "images", keys=["castle", "castle"])) == (False, late)
    assert followed(runner.run(edited, "images", keys=["moon", "moon"])) == (True, {})


def test_whether_images_follow_their_prompts_can_be_asked_alone(runner: AssetRunner) -> None:
    runner.run(runner.write(TWO))
    edited = runner.write(EDITED)
    runner.run(edited, "prompts")
    asked = dg.AssetSelection.checks(dg.AssetCheckKey(runner.keys.images, FOLLOW))
    job = dg.define_asset_job("asked", selection=asked, executor_def=dg.in_process_executor)
    both = dg.Definitions.merge(runner.definitions(edited), dg.Definitions(jobs=[job]))
    result = both.resolve_job_def("asked").execute_in_process(instance=runner.instance)
    assert followed(result) == (False, {"moon": "its prompts were edited since"})
    assert runner.usage().creates_accepted == 2


def test_images_that_are_ahead_of_prompts_read_long_ago_are_not_stale(runner: AssetRunner) -> None:
    runner.run(runner.write(TWO))
    edited = runner.write(EDITED)
    assert followed(runner.run(edited, "images")) == (True, {})
    assert stale(runner, edited, "images") == {"castle": "FRESH", "moon": "FRESH"}


def test_a_removed_prompt_makes_nothing_stale(runner: AssetRunner) -> None:
    runner.run(runner.write(TWO))
    runner.run(runner.write(EDITED), "prompts")
    assert followed(runner.run(runner.write("prompts: {castle: a castle}"), "prompts")) == (
        True,
        {},
    )


def test_a_run_asks_for_no_output_that_does_not_come(runner: AssetRunner) -> None:
    result = runner.run(runner.write(TWO))
    logged = runner.instance.all_logs(result.run_id)
    assert not [entry.user_message for entry in logged if "did not yield" in entry.user_message]
