"""What is stale after what: partition by partition, and by Dagster's own reckoning.

Written against Dagster's resolver, so that a change of its tags' names or meaning fails here.
"""

from collections.abc import Mapping

import dagster as dg
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.prompts import PromptSet
from tests.defs.bench import Bench

FOLLOW = "images_follow_their_prompts"

TWO = "prompts: {castle: a castle, moon: the moon}"
EDITED = "prompts: {castle: a castle, moon: the full moon}"


def stale(bench: Bench, prompt_set: PromptSet, asset: str) -> Mapping[str, str]:
    """The status of each partition: FRESH, STALE or MISSING."""
    graph = bench.definitions(prompt_set).resolve_asset_graph()
    loading = LoadingContextForTest(bench.instance)
    resolver = CachingStaleStatusResolver(bench.instance, graph, loading)
    key = dg.AssetKey([bench.name, asset])
    if asset == "gallery":
        return {"": resolver.get_status(key).value}
    return {each: resolver.get_status(key, each).value for each in prompt_set.partition_keys()}


def followed(result: dg.ExecuteInProcessResult) -> tuple[bool, Mapping[str, str]]:
    """Whether the images follow their prompts, and which partitions don't, and why."""
    (check,) = (each for each in result.get_asset_check_evaluations() if each.check_name == FOLLOW)
    wrong = check.metadata["flux/wrong"].value
    assert isinstance(wrong, dict)
    return check.passed, wrong


def test_nothing_is_stale_after_a_run(bench: Bench) -> None:
    winter = bench.write(TWO)
    assert stale(bench, winter, "images") == {"castle": "MISSING", "moon": "MISSING"}
    bench.run(winter)
    for asset in ("prompts", "images"):
        assert stale(bench, winter, asset) == {"castle": "FRESH", "moon": "FRESH"}
    assert stale(bench, winter, "gallery") == {"": "FRESH"}


def test_an_edit_makes_the_file_stale_and_then_the_edited_partition_alone(bench: Bench) -> None:
    bench.run(bench.write(TWO))
    edited = bench.write(EDITED)
    assert stale(bench, edited, "prompts") == {"castle": "STALE", "moon": "STALE"}
    assert stale(bench, edited, "images") == {"castle": "FRESH", "moon": "FRESH"}
    bench.run(edited, "prompts")
    assert stale(bench, edited, "prompts") == {"castle": "FRESH", "moon": "FRESH"}
    assert stale(bench, edited, "images") == {"castle": "FRESH", "moon": "STALE"}
    bench.run(edited, "images", keys=["moon", "moon"])
    assert stale(bench, edited, "images") == {"castle": "FRESH", "moon": "FRESH"}


def test_a_comment_in_the_file_makes_no_image_stale(bench: Bench) -> None:
    bench.run(bench.write(TWO))
    commented = bench.write(f"# the same\n{TWO}")
    bench.run(commented, "prompts")
    assert stale(bench, commented, "images") == {"castle": "FRESH", "moon": "FRESH"}


def test_new_images_make_the_gallery_stale(bench: Bench) -> None:
    bench.options = EmulatorOptions(time_scale=0)  # another prompt gives other pixels
    bench.run(bench.write(TWO))
    edited = bench.write(EDITED)
    bench.run(edited, "prompts", "images")
    assert stale(bench, edited, "gallery") == {"": "STALE"}
    bench.run(edited, "gallery")
    assert stale(bench, edited, "gallery") == {"": "FRESH"}


def test_a_new_prompt_is_missing_and_makes_no_other_stale(bench: Bench) -> None:
    bench.run(bench.write(TWO))
    more = bench.write("prompts: {castle: a castle, moon: the moon, zoo: a zoo}")
    bench.run(more, "prompts")
    assert stale(bench, more, "images") == {"castle": "FRESH", "moon": "FRESH", "zoo": "MISSING"}
    bench.run(more, "images")
    assert bench.charged().creates_accepted == 3


def test_prompts_that_were_read_alone_name_the_partitions_that_were_edited(bench: Bench) -> None:
    assert followed(bench.run(bench.write(TWO))) == (True, {})
    edited = bench.write(EDITED)
    late = {"moon": "its prompts were edited since"}
    assert followed(bench.run(edited, "prompts")) == (False, late)
    # Also where other partitions are made: it speaks of the whole set.
    assert followed(bench.run(edited, "images", keys=["castle", "castle"])) == (False, late)
    assert followed(bench.run(edited, "images", keys=["moon", "moon"])) == (True, {})


def test_whether_images_follow_their_prompts_can_be_asked_alone(bench: Bench) -> None:
    bench.run(bench.write(TWO))
    edited = bench.write(EDITED)
    bench.run(edited, "prompts")
    asked = dg.AssetSelection.checks(dg.AssetCheckKey(bench.keys.images, FOLLOW))
    job = dg.define_asset_job("asked", selection=asked, executor_def=dg.in_process_executor)
    both = dg.Definitions.merge(bench.definitions(edited), dg.Definitions(jobs=[job]))
    result = both.resolve_job_def("asked").execute_in_process(instance=bench.instance)
    assert followed(result) == (False, {"moon": "its prompts were edited since"})
    assert bench.charged().creates_accepted == 2


def test_images_that_are_ahead_of_prompts_read_long_ago_are_not_behind(bench: Bench) -> None:
    bench.run(bench.write(TWO))
    edited = bench.write(EDITED)
    assert followed(bench.run(edited, "images")) == (True, {})
    assert stale(bench, edited, "images") == {"castle": "FRESH", "moon": "FRESH"}


def test_a_removed_prompt_is_behind_nothing(bench: Bench) -> None:
    bench.run(bench.write(TWO))
    bench.run(bench.write(EDITED), "prompts")
    assert followed(bench.run(bench.write("prompts: {castle: a castle}"), "prompts")) == (True, {})


def test_a_run_asks_for_no_output_that_does_not_come(bench: Bench) -> None:
    result = bench.run(bench.write(TWO))
    logged = bench.instance.all_logs(result.run_id)
    assert not [entry.user_message for entry in logged if "did not yield" in entry.user_message]
