"""The gallery over all prompt sets: an asset among the books."""

import dagster as dg

from flux_pipeline.defs.automation import REFRESH_SHARED_ASSETS
from tests.defs.bench import QUIET, Bench

TEXT = "prompts: {castle: a castle, moon: the moon}"


def test_it_is_made_with_the_books_from_the_galleries_of_the_sets(bench: Bench) -> None:
    winter = bench.write(TEXT)
    bench.run(winter)
    job = bench.definitions(winter).resolve_job_def(REFRESH_SHARED_ASSETS)
    result = job.execute_in_process(instance=bench.instance, run_config=QUIET)
    events = {
        each.asset_key.to_user_string(): each.step_materialization_data.materialization
        for each in result.get_asset_materialization_events()
        if each.asset_key
    }
    shown = {name: value.value for name, value in events["gallery"].metadata.items()}
    path = bench.folder / "store/galleries/index.html"
    assert shown["dagster/uri"] == path.as_uri()
    assert shown["dagster/size_bytes"] == path.stat().st_size
    assert (shown["dagster/row_count"], shown["flux/prompt_sets"]) == (2, 1)
    assert f'"name":"{bench.name}"' in path.read_text()


def test_it_depends_on_the_gallery_of_every_set(bench: Bench) -> None:
    graph = bench.definitions(bench.write(TEXT)).resolve_asset_graph()
    assert graph.get(dg.AssetKey("gallery")).parent_keys == {bench.keys.gallery}
    assert graph.get(dg.AssetKey("gallery")).group_name == "books"
