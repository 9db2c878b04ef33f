"""What a set publishes from Dagster: a step of its own, an event a partition, checks."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from flux_pipeline.defs.downstream import NO_FAILURE
from flux_pipeline.defs.keys import asset_keys
from flux_pipeline.defs.partitions import range_tags
from flux_pipeline.defs.published_checks import find_size_mistake
from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.prompts import PromptSet
from flux_pipeline.variant import VariantSpec
from tests.defs.asset_runner import QUIET, AssetRunner, checks

TWO = "prompts: {castle: a castle, moon: {prompt: the moon, takes: 2}}\n"
PUBLISH = """\
choose: {choose}
publish:
  prune: true
  name: "{{name}}-{{take}}-{{variant}}.{{format}}"
  variants:
    web: {{width: {width}}}
    thumb: {{width: 16, height: 16, fit: cover, format: avif}}
"""
MOON_FAILS = FaultPlan(outcome={"failed_pa": 1.0}, only_prompts="moon", cap=100)
ALL_HOLD = {
    "chosen_images_are_delivered": True,
    "files_are_readable": True,
    "files_have_the_asked_size": True,
    "picks_name_current_images": True,
    "nothing_is_undecided": True,
}


def write(
    runner: AssetRunner, choose: str = "first", width: int = 64, more: str = TWO
) -> PromptSet:
    return runner.write(PUBLISH.format(choose=choose, width=width) + more)


def index(runner: AssetRunner) -> dict[str, Any]:
    path = public(runner) / "index.json"
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


def public(runner: AssetRunner) -> Path:
    return runner.folder / "store/published" / runner.name


def names(runner: AssetRunner) -> list[str]:
    return [image["name"] for image in index(runner)["images"]]


def published_checks(result: dg.ExecuteInProcessResult) -> Mapping[str, bool]:
    return {name: passed for name, passed in checks(result).items() if name in ALL_HOLD}


def events(result: dg.ExecuteInProcessResult, key: dg.AssetKey) -> list[str | None]:
    found = [
        event.step_materialization_data.materialization
        for event in result.get_asset_materialization_events()
    ]
    return [each.partition for each in found if each.asset_key == key]


def stale(runner: AssetRunner, prompt_set: PromptSet, asset: str) -> Mapping[str, str]:
    graph = runner.definitions(prompt_set).resolve_asset_graph()
    loading = LoadingContextForTest(runner.instance)
    resolver = CachingStaleStatusResolver(runner.instance, graph, loading)
    key = dg.AssetKey([runner.name, asset])
    return {each: resolver.get_status(key, each).value for each in prompt_set.partition_keys()}


def test_the_job_of_a_set_publishes_what_is_chosen(runner: AssetRunner) -> None:
    result = runner.run(write(runner))
    assert result.success
    assert names(runner) == ["castle-1", "moon-1"]
    assert events(result, runner.keys.published) == ["castle", "moon"]
    assert published_checks(result) == ALL_HOLD
    shown = runner.metadata("published", "moon")
    assert shown["dagster/row_count"] == 1
    assert shown["flux/files"] == 2
    assert shown["flux/index_uri"] == (public(runner) / "index.json").as_uri()
    assert shown["dagster/uri"] == public(runner).as_uri()
    assert shown["flux/preview"].startswith("![moon-1](data:image/webp;base64,")
    rows = [record.data for record in shown["flux/file_table"].records]
    assert [(row["path"], row["size"]) for row in rows][1] == ("moon-1-thumb.avif", "16×16")
    assert runner.event("published", "moon").description == "moon: 1 image, 2 files"


def test_another_variant_or_pick_makes_published_stale_and_not_the_images(
    runner: AssetRunner,
) -> None:
    runner.run(write(runner))
    two = {"castle": "FRESH", "moon": "FRESH"}
    assert stale(runner, write(runner), "published") == two
    other = write(runner, width=48)
    assert set(stale(runner, other, "published").values()) == {"STALE"}
    assert stale(runner, other, "images") == two
    runner.run(other)
    assert stale(runner, other, "published") == two
    assert index(runner)["images"][0]["files"][0]["width"] == 48
    picked = write(runner, "picks.csv", 48)
    (runner.folder / "picks.csv").write_text("prompt,take\nmoon,2\n")
    assert set(stale(runner, picked, "published").values()) == {"STALE"}
    result = runner.run(picked, "published")
    assert names(runner) == ["moon-2"]
    assert published_checks(result) == ALL_HOLD | {"nothing_is_undecided": False}
    assert runner.usage().creates_accepted == 3


def test_what_is_unchanged_keeps_its_files_and_pictures(runner: AssetRunner) -> None:
    first = runner.run(write(runner))
    before = {path: path.stat().st_mtime_ns for path in public(runner).rglob("*")}
    shown = runner.metadata("published", "castle")
    assert runner.run(write(runner)).run_id != first.run_id
    assert {path: path.stat().st_mtime_ns for path in public(runner).rglob("*")} == before
    again = runner.metadata("published", "castle")
    assert (again["flux/preview"], again["flux/files"]) == (shown["flux/preview"], 2)


def test_where_a_partition_failed_the_others_are_published_and_the_run_fails(
    runner: AssetRunner,
) -> None:
    runner.serve(MOON_FAILS)
    prompt_set = write(runner)
    result = runner.run(prompt_set, raise_on_error=False)
    assert not result.success
    (failure,) = result.filter_events(lambda event: event.is_step_failure)
    assert str(failure.step_key).endswith(NO_FAILURE)
    assert published_checks(result) == ALL_HOLD
    assert events(result, runner.keys.published) == ["castle"]
    assert names(runner) == ["castle-1"]
    runner.serve(FaultPlan())
    assert runner.run(prompt_set).success
    assert names(runner) == ["castle-1", "moon-1"]
    assert runner.statuses(prompt_set, "published") == {
        "castle": "MATERIALIZED",
        "moon": "MATERIALIZED",
    }


def test_a_chosen_image_that_cannot_be_read_fails_its_partition_alone(runner: AssetRunner) -> None:
    prompt_set = write(runner)
    runner.run(prompt_set, "prompts", "images")
    (castle,) = (runner.folder / f"store/images/{runner.name}").rglob("castle-*.webp")
    castle.write_bytes(castle.read_bytes()[:100])
    result = runner.run(prompt_set, "published", raise_on_error=False)
    assert not result.success
    assert events(result, runner.keys.published) == ["moon"]
    assert published_checks(result) == ALL_HOLD | {"chosen_images_are_delivered": False}
    (failure,) = result.filter_events(lambda event: event.is_step_failure)
    said = str(failure.step_failure_data.user_failure_data.description)
    assert said.startswith("1 chosen image could not be delivered\ncastle-1: file://")


def test_checks_name_what_was_made_anew_and_what_is_too_small(runner: AssetRunner) -> None:
    (runner.folder / "picks.csv").write_text(
        f"prompt,take,output,image_sha256\ncastle,1,1,{'0' * 64}\nmoon,1,1,\n"
    )
    result = runner.run(write(runner, "picks.csv", 9_000))
    found = {each.check_name: each for each in result.get_asset_check_evaluations()}
    picks, sizes = found["picks_name_current_images"], found["files_have_the_asked_size"]
    assert not picks.passed
    assert picks.severity is dg.AssetCheckSeverity.ERROR
    assert "row 1" in str(picks.metadata["flux/wrong"].value)
    assert "made anew" in str(picks.metadata["flux/examples"].value)
    assert not sizes.passed
    assert sizes.severity is dg.AssetCheckSeverity.WARN
    assert list(sizes.metadata["flux/wrong"].value) == ["moon-1-web.webp"]


def test_files_that_were_changed_are_written_anew(runner: AssetRunner) -> None:
    prompt_set = write(runner)
    runner.run(prompt_set)
    (public(runner) / "castle-1-web.webp").write_bytes(b"no picture")
    (public(runner) / "moon-1-web.webp").unlink()
    assert published_checks(runner.run(prompt_set, "published")) == ALL_HOLD
    assert (public(runner) / "castle-1-web.webp").read_bytes()[:4] == b"RIFF"


def test_a_prompt_that_left_the_file_is_taken_away_by_a_run_over_all(runner: AssetRunner) -> None:
    runner.run(write(runner))
    runner.run(write(runner, more="prompts: {castle: a castle}\n"))
    assert names(runner) == ["castle-1"]


def test_a_set_by_day_publishes_its_day_beside_the_others(runner: AssetRunner) -> None:
    daily = (
        'publish: {name: "{date}/{name}-{variant}.{format}", variants: {web: {width: 32}}}\n'
        'prompts: {moon: "the moon on {date}"}\n'
        "partitions: {by: day, start: 2026-11-01}\n"
    )
    diary = runner.write(daily)
    assert runner.run(diary, keys=["2026-11-02"]).success
    assert runner.run(diary, keys=["2026-11-01"]).success
    assert names(runner) == ["moon-2026-11-01", "moon-2026-11-02"]
    assert runner.metadata("published", "2026-11-01")["dagster/row_count"] == 1
    unnamed = runner.run(diary, "published", named=False, raise_on_error=False)
    assert not unnamed.success


def test_published_alone_says_what_has_to_be_made_first(runner: AssetRunner) -> None:
    result = runner.run(write(runner), "published", raise_on_error=False)
    (failure,) = result.filter_events(lambda event: event.is_step_failure)
    said = str(failure.step_failure_data.user_failure_data.description)
    assert said.endswith("nothing is there of castle, moon: materialize it first")


def test_a_set_without_publish_has_no_such_asset(runner: AssetRunner) -> None:
    graph = runner.definitions(runner.write(TWO)).resolve_asset_graph()
    assert runner.keys.published not in graph.get_all_asset_keys()


def test_assets_behind_it_run_for_what_is_there(runner: AssetRunner) -> None:
    runner.serve(MOON_FAILS)
    prompt_set, ran = write(runner), []
    partitions = dg.StaticPartitionsDefinition(list(prompt_set.partition_keys()))

    @dg.asset(deps=[runner.keys.published], partitions_def=partitions)
    def cache(context: dg.AssetExecutionContext) -> None:
        ran.extend(context.partition_keys)

    both = dg.Definitions.merge(runner.definitions(prompt_set), dg.Definitions(assets=[cache]))
    result = both.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=runner.instance,
        run_config=QUIET,
        tags=range_tags(dg.PartitionKeyRange("castle", "moon")),
        asset_selection=[*asset_keys(prompt_set), cache.key],
        raise_on_error=False,
    )
    assert not result.success
    assert "castle" in ran


@pytest.mark.parametrize(
    ("spec", "size", "found"),
    [
        (VariantSpec(name="a"), (7, 9), ""),
        (VariantSpec(name="a", width=60), (60, 41), ""),
        (VariantSpec(name="a", width=60, height=60), (40, 60), ""),
        (VariantSpec(name="a", width=60), (61, 41), "error"),
        (VariantSpec(name="a", width=60), (50, 41), "smaller"),
        (VariantSpec(name="a", width=60, enlarge=True), (50, 41), "error"),
        (VariantSpec(name="a", width=60, height=40, fit="cover"), (60, 40), ""),
        (VariantSpec(name="a", width=60, height=40, fit="cover"), (60, 39), "smaller"),
        (VariantSpec(name="a", width=60, height=40, fit="contain"), (60, 39), "error"),
    ],
)
def test_sizes_are_compared_with_what_the_variant_asks_for(
    spec: VariantSpec, size: tuple[int, int], found: str
) -> None:
    mistake, is_smaller = find_size_mistake(spec, *size)
    assert (mistake and ("smaller" if is_smaller else "error")) == found
