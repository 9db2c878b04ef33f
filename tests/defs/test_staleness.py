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
