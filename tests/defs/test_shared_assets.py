"""Lineage, spend and the gallery over all sets, from what real runs recorded."""

import base64
import csv
import re
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from flux_pipeline.defs.automation import REFRESH_SHARED_ASSETS
from flux_pipeline.defs.run_summary import explain_failure
from flux_pipeline.defs.shared_assets import are_current
from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.lineage.spend import SPEND_SCHEMA
from flux_pipeline.prompts import PromptSet
from tests.defs.asset_runner import QUIET, AssetRunner, checks

ALL = ["lineage", "spend", "gallery"]


def refresh_shared_assets(runner: AssetRunner, *sets: str) -> dict[str, dg.AssetMaterialization]:
    loaded = [runner.write(text) for text in sets]
    result = (
        runner.definitions(*loaded)
        .resolve_job_def(REFRESH_SHARED_ASSETS)
        .execute_in_process(instance=runner.instance, run_config=QUIET)
    )
    return {
        event.asset_key.to_user_string(): event.step_materialization_data.materialization
        for event in result.get_asset_materialization_events()
        if event.asset_key
    }


def refresh_some(
    runner: AssetRunner, prompt_set: PromptSet, *names: str
) -> tuple[list[str], str, int]:
    """The assets that are made of those asked for, why the run failed, and its steps."""
    result = (
        runner.definitions(prompt_set)
        .resolve_job_def(REFRESH_SHARED_ASSETS)
        .execute_in_process(
            instance=runner.instance,
            run_config=QUIET,
            asset_selection=[dg.AssetKey(name) for name in names],
            raise_on_error=False,
        )
    )
    made = [str(event.asset_key) for event in result.get_asset_materialization_events()]
    failures = result.filter_events(lambda event: event.is_step_failure)
    reasons = [explain_failure([event])[0] for event in failures]
    steps = result.filter_events(lambda event: event.event_type is dg.DagsterEventType.STEP_START)
    return [name for name in names if str(dg.AssetKey(name)) in made], "".join(reasons), len(steps)


def block(path: Path) -> None:
    """Put a folder where a file is written."""
    path.unlink(missing_ok=True)
    path.mkdir(parents=True)


def test_one_step_makes_those_that_are_asked_for(runner: AssetRunner) -> None:
    prompt_set = runner.write("prompts: {castle: a castle}")
    runner.run(prompt_set)
    assert refresh_some(runner, prompt_set, "spend") == (["spend"], "", 1)
    assert refresh_some(runner, prompt_set, "gallery", "lineage") == (["gallery", "lineage"], "", 1)
    assert refresh_some(runner, prompt_set, *ALL) == (ALL, "", 1)


def test_one_that_fails_keeps_back_only_what_is_made_of_it(runner: AssetRunner) -> None:
    prompt_set = runner.write("prompts: {castle: a castle}")
    runner.run(prompt_set)
    store = runner.folder / "store"
    block(store / "lineage/current.parquet")
    made, reason, _ = refresh_some(runner, prompt_set, *ALL)
    assert made == ["gallery"]
    assert "current.parquet" in reason

    block(store / "galleries/index.html")
    made, reason, _ = refresh_some(runner, prompt_set, *ALL)
    assert made == []
    assert re.search("^lineage: .*current.parquet", reason, re.MULTILINE)
    assert re.search("^gallery: .*index.html", reason, re.MULTILINE)

    (store / "lineage/current.parquet").rmdir()
    assert refresh_some(runner, prompt_set, *ALL)[0] == ["lineage", "spend"]


def test_an_error_that_nobody_expects_keeps_back_no_more(
    runner: AssetRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt_set = runner.write("prompts: {castle: a castle}")
    runner.run(prompt_set)
    monkeypatch.setattr("flux_pipeline.lineage.table.compact", None)
    made, reason, _ = refresh_some(runner, prompt_set, *ALL)
    assert made == ["gallery"]
    assert "Error occurred while executing" in reason


def test_spend_is_fresh_until_lineage_is_made_again(runner: AssetRunner) -> None:
    prompt_set = runner.write("prompts: {castle: a castle}")
    runner.run(prompt_set)

    def statuses() -> list[str]:
        graph = runner.definitions(prompt_set).resolve_asset_graph()
        loading = LoadingContextForTest(runner.instance)
        resolver = CachingStaleStatusResolver(runner.instance, graph, loading)
        return [resolver.get_status(dg.AssetKey(name)).value for name in ALL]

    refresh_some(runner, prompt_set, *ALL)
    assert statuses() == ["FRESH", "FRESH", "FRESH"]
    refresh_some(runner, prompt_set, "lineage")
    assert statuses() == ["FRESH", "STALE", "FRESH"]


def test_lineage_holds_every_image_once(runner: AssetRunner) -> None:
    runner.serve(FaultPlan(outcome={"failed_nsfw": 1.0}, only_prompts="moon", cap=100))
    text = "prompts: {castle: {prompt: a castle, takes: 2}, moon: the moon}"
    winter = runner.write(text)
    runner.run(winter, raise_on_error=False)
    runner.run(winter, raise_on_error=False)
    events = refresh_shared_assets(runner, text)
    table = pq.read_table(runner.folder / "store/lineage/current.parquet")
    assert len(table) == events["lineage"].metadata["dagster/row_count"].value == 3
    shown = events["spend"].metadata
    assert shown["flux/stored_images"].value == 2
    assert shown["flux/cost_usd"].value == pytest.approx(0.009, abs=0.0031)
    with (runner.folder / "store/spend/by-day.csv").open() as file:
        rows = list(csv.DictReader(file))  # two, if midnight came between
    assert {row["prompt_set"] for row in rows} == {runner.name}
    assert sum(int(row["images"]) for row in rows) == 2
    assert sum(int(row["refused"]) + int(row["failed"]) for row in rows) == 1
    assert shown["dagster/uri"].value.endswith("/spend/by-day.csv")


def test_a_prediction_of_four_images_is_counted_and_paid_once(runner: AssetRunner) -> None:
    text = "prompts: {castle: {prompt: a castle, num_outputs: 4, takes: 2}}"
    runner.run(runner.write(text))
    events = refresh_shared_assets(runner, text)
    shown = {name: value.value for name, value in events["spend"].metadata.items()}
    assert (shown["flux/predictions"], shown["flux/stored_images"]) == (2, 8)
    assert shown["flux/cost_usd"] == pytest.approx(0.024)
    rows = pq.read_table(runner.folder / "store/lineage/current.parquet").to_pylist()
    seconds = {row["prediction_id"]: row["predict_seconds"] for row in rows}
    assert shown["flux/predict_seconds"] == pytest.approx(sum(seconds.values()), abs=0.001)


def test_every_image_asked_for_has_a_row_whatever_became_of_it(runner: AssetRunner) -> None:
    faults = {"failed_nsfw": 0.25, "failed_permanent": 0.25, "images_refused": 0.25}
    runner.serve(FaultPlan(outcome=faults, cap=100))
    text = "prompts: {castle: {prompt: a castle, num_outputs: 4, takes: 12}}"
    winter = runner.write(text)
    runner.run(winter, raise_on_error=False)
    refresh_shared_assets(runner, text)
    rows = pq.read_table(runner.folder / "store/lineage/current.parquet").to_pylist()
    asked = {(request.request_sha256, index) for request in winter.requests() for index in range(4)}
    assert {(row["request_sha256"], row["output_index"]) for row in rows} == asked
    assert len(rows) == len(asked) == 48
    assert {row["status"] for row in rows} == {"stored", "refused", "failed"}
    for row in rows:
        assert (row["uri"] is None) == (row["status"] != "stored")
        assert row["error"] or row["status"] == "stored"


def test_what_is_held_has_rows_and_fails_its_check(runner: AssetRunner) -> None:
    runner.options = runner.options.model_copy(update={"list_enabled": False})
    runner.limits = {"unknown": "hold"}
    runner.serve(FaultPlan(create={"reset_after": 1.0}, cap=1))
    text = "prompts: {castle: {prompt: a castle, num_outputs: 2}}"
    result = runner.run(runner.write(text), raise_on_error=False)
    assert not checks(result)["nothing_is_held"]
    refresh_shared_assets(runner, text)
    rows = pq.read_table(runner.folder / "store/lineage/current.parquet").to_pylist()
    assert [(row["output_index"], row["status"]) for row in rows] == [(0, "failed"), (1, "failed")]
    assert all("`flux-pipeline held`" in row["error"] for row in rows)


def test_lineage_and_spend_of_nothing_are_empty(runner: AssetRunner) -> None:
    events = refresh_shared_assets(runner, "prompts: {castle: a castle}")
    assert events["lineage"].metadata["dagster/row_count"].value == 0
    assert events["spend"].metadata["dagster/row_count"].value == 0


def test_every_column_of_the_table_is_described_before_it_exists(runner: AssetRunner) -> None:
    definitions = runner.definitions(runner.write("prompts: {castle: a castle}"))
    (spec,) = [
        spec for spec in definitions.resolve_all_asset_specs() if spec.key.path == ["lineage"]
    ]
    schema = spec.metadata["dagster/column_schema"]
    assert isinstance(schema, dg.TableSchema)
    assert all(column.description for column in schema.columns)
    assert {"prompt", "image_sha256", "cost_usd"} <= {column.name for column in schema.columns}


def test_the_shared_assets_depend_on_every_set(runner: AssetRunner) -> None:
    definitions = runner.definitions(runner.write("prompts: {castle: a castle}"))
    graph = definitions.resolve_asset_graph()
    assert graph.get(dg.AssetKey("lineage")).parent_keys == {runner.keys.images}
    assert graph.get(dg.AssetKey("spend")).parent_keys == {dg.AssetKey("lineage")}
    assert graph.get(dg.AssetKey("gallery")).parent_keys == {runner.keys.gallery}
    shared = [graph.get(dg.AssetKey(name)) for name in ("lineage", "spend", "gallery")]
    assert {each.group_name for each in shared} == {"shared"}


def test_every_column_of_spend_says_where_it_comes_from(runner: AssetRunner) -> None:
    definitions = runner.definitions(runner.write("prompts: {castle: a castle}"))
    specs = {spec.key.path[-1]: spec for spec in definitions.resolve_all_asset_specs()}
    columns = {
        name: {column.name for column in specs[name].metadata["dagster/column_schema"].columns}
        for name in ("spend", "lineage")
    }
    origins = specs["spend"].metadata["dagster/column_lineage"]
    assert isinstance(origins, dg.TableColumnLineage)
    assert set(origins.deps_by_column) == columns["spend"]
    for deps in origins.deps_by_column.values():
        assert {dep.asset_key.path[-1] for dep in deps} == {"lineage"}
        assert {dep.column_name for dep in deps} <= columns["lineage"]


def test_spend_and_the_gallery_are_shown_in_the_event_and_kept_in_the_store(
    runner: AssetRunner,
) -> None:
    text = "prompts: {castle: a castle, moon: the moon}"
    runner.run(runner.write(text))
    events = refresh_shared_assets(runner, text)
    spend, gallery = (events[name].metadata for name in ("spend", "gallery"))

    table = spend["flux/by_day"].value.splitlines()
    assert table[0] == f"| {' | '.join(SPEND_SCHEMA.names)} |"
    assert table[1] == f"|{' --- |' * len(SPEND_SCHEMA)}"
    cells = table[2].strip("| ").split(" | ")
    assert cells[1:8] == [runner.name, "lucataco/flux-schnell-lora", "2", "2", "0", "0", "0.0060"]

    plot = spend["flux/plot"]
    assert isinstance(plot, dg.MarkdownMetadataValue)
    data = plot.value.removeprefix("![USD a day](data:image/svg+xml;base64,").removesuffix(")")
    assert base64.b64decode(data).startswith(b"<svg ")
    assert len(plot.value) < 40_000
    page = runner.folder / "store/spend/index.html"
    assert spend["flux/page_uri"].value == page.as_uri()
    assert runner.name in page.read_text()

    path = runner.folder / "store/galleries/index.html"
    assert gallery["dagster/uri"].value == path.as_uri()
    assert gallery["dagster/size_bytes"].value == path.stat().st_size
    counts = gallery["dagster/row_count"].value, gallery["flux/prompt_sets"].value
    assert counts == (2, 1)
    assert f'"name":"{runner.name}"' in path.read_text()


def test_they_are_current_until_an_image_is_made_or_a_page_is_gone(runner: AssetRunner) -> None:
    text = "prompts: {castle: a castle}"
    runner.run(runner.write(text))
    store = runner.resource.open_store()
    assert not are_current(runner.instance, store)
    refresh_shared_assets(runner, text)
    assert are_current(runner.instance, store)
    runner.run(runner.write(text))  # nothing to do
    assert are_current(runner.instance, store)

    page = runner.folder / "store/galleries/index.html"
    page.rename(page.with_suffix(".away"))
    assert not are_current(runner.instance, store)
    page.with_suffix(".away").rename(page)
    assert are_current(runner.instance, store)

    runner.run(runner.write("prompts: {castle: a castle, moon: the moon}"))
    assert not are_current(runner.instance, store)


def test_a_prompt_that_is_removed_makes_the_gallery_of_all_out_of_date(runner: AssetRunner) -> None:
    text = "prompts: {castle: a castle, moon: the moon}"
    runner.run(runner.write(text))
    refresh_shared_assets(runner, text)
    runner.run(runner.write("prompts: {castle: a castle}"))
    assert not are_current(runner.instance, runner.resource.open_store())
