"""Lineage and spend over all sets, from what real runs recorded."""

import csv

import dagster as dg
import pyarrow.parquet as pq
import pytest

from flux_pipeline.defs.automation import BOOKS
from flux_pipeline.emulator.faults import FaultPlan
from tests.defs.bench import QUIET, Bench


def keep_books(bench: Bench, *sets: str) -> dict[str, dg.AssetMaterialization]:
    loaded = [bench.write(text) for text in sets]
    result = (
        bench.definitions(*loaded)
        .resolve_job_def(BOOKS)
        .execute_in_process(instance=bench.instance, run_config=QUIET)
    )
    return {
        event.asset_key.to_user_string(): event.step_materialization_data.materialization
        for event in result.get_asset_materialization_events()
        if event.asset_key
    }


def test_the_books_hold_every_image_once(bench: Bench) -> None:
    bench.serve(FaultPlan(outcome={"failed_nsfw": 1.0}, only_prompts="moon", cap=100))
    text = "prompts: {castle: {prompt: a castle, takes: 2}, moon: the moon}"
    winter = bench.write(text)
    bench.run(winter, raise_on_error=False)
    bench.run(winter, raise_on_error=False)
    events = keep_books(bench, text)
    table = pq.read_table(bench.folder / "store/lineage/current.parquet")
    assert len(table) == events["lineage"].metadata["dagster/row_count"].value == 3
    shown = events["spend"].metadata
    assert shown["flux/stored_images"].value == 2
    assert shown["flux/cost_usd"].value == pytest.approx(0.009, abs=0.0031)
    with (bench.folder / "store/spend/by-day.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["prompt_set"], row["stored"]) == (bench.name, "2")
    assert int(row["refused"]) + int(row["failed"]) == 1
    assert shown["dagster/uri"].value.endswith("/spend/by-day.csv")


def test_the_table_in_the_ui_is_markdown_of_plain_cells(bench: Bench) -> None:
    text = "prompts: {castle: a castle}"
    bench.run(bench.write(text))
    table = keep_books(bench, text)["spend"].metadata["flux/by_day"].value.splitlines()
    assert table[0] == "| day | prompt_set | model | stored | refused | failed | usd |"
    assert table[1] == "| --- | --- | --- | --- | --- | --- | --- |"
    assert table[2].endswith(f" | {bench.name} | lucataco/flux-schnell-lora | 1 | 0 | 0 | 0.0030 |")


def test_the_books_of_nothing_are_empty(bench: Bench) -> None:
    events = keep_books(bench, "prompts: {castle: a castle}")
    assert events["lineage"].metadata["dagster/row_count"].value == 0
    assert events["spend"].metadata["dagster/row_count"].value == 0


def test_every_column_of_the_table_is_described_before_it_exists(bench: Bench) -> None:
    definitions = bench.definitions(bench.write("prompts: {castle: a castle}"))
    (spec,) = [
        spec for spec in definitions.resolve_all_asset_specs() if spec.key.path == ["lineage"]
    ]
    schema = spec.metadata["dagster/column_schema"]
    assert isinstance(schema, dg.TableSchema)
    assert all(column.description for column in schema.columns)
    assert {"prompt", "image_sha256", "cost_usd"} <= {column.name for column in schema.columns}


def test_the_books_depend_on_the_images_of_every_set(bench: Bench) -> None:
    definitions = bench.definitions(bench.write("prompts: {castle: a castle}"))
    graph = definitions.resolve_asset_graph()
    assert graph.get(dg.AssetKey("lineage")).parent_keys == {bench.keys.images}
    assert graph.get(dg.AssetKey("spend")).parent_keys == {dg.AssetKey("lineage")}
