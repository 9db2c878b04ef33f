"""An asset downstream gets the images of the run's partitions, those that are there alone."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from flux_pipeline.defs.build import build_set, without_beta_warnings
from flux_pipeline.defs.downstream import images_of
from flux_pipeline.defs.partitions import range_tags
from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.image_reader import Images
from flux_pipeline.prompts import load_prompt_set
from flux_pipeline.testing import ImageStudio, open_studio
from tests.defs.asset_runner import HEAD, QUIET
from tests.defs.component_project import load, write_defs

FOUR = "prompts: {castle: a castle, harbour: a harbour, moon: the moon, zoo: a zoo}"
FAILED = FaultPlan(outcome={"failed_permanent": 1.0}, only_prompts="moon", cap=100)


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[ImageStudio]:
    (tmp_path / "winter.yaml").write_text(HEAD + FOUR)
    with open_studio(tmp_path, FAILED) as opened:
        yield opened


class Readers:
    """Two assets that read the images, and what they were given."""

    def __init__(self, studio: ImageStudio, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.studio = studio
        self.set = load_prompt_set(studio.folder / "winter.yaml")
        self.winter = images_of(self.set)
        self.given: dict[str, tuple[tuple[str, ...], tuple[str, ...], int]] = {}

    def definitions(self) -> dg.Definitions:
        ins = {"images": dg.AssetIn(key=self.winter.key)}

        def note(name: str, images: Images) -> None:
            sizes = [len(each.bytes) for each in images]
            self.given[name] = images.partitions, images.missing, len(sizes)

        @dg.asset(ins=ins, partitions_def=self.winter.partitions_def, output_required=False)
        def posters(
            context: dg.AssetExecutionContext, images: Images
        ) -> Iterator[dg.AssetMaterialization]:
            note("posters", images)
            for partition in images.partitions:
                yield dg.AssetMaterialization(context.asset_key, partition=partition)

        @dg.asset(ins=ins)
        def album(images: Images) -> None:
            note("album", images)

        mine = dg.Definitions(
            assets=[posters, album],
            resources={"image_producer": self.studio.image_producer},
            executor=dg.in_process_executor,
        )
        return dg.Definitions.merge(build_set(self.set), mine)

    def run(
        self, *names: str, first: str = "castle", last: str = "zoo"
    ) -> dg.ExecuteInProcessResult:
        self.given.clear()
        keys = [dg.AssetKey(name.split("/")) for name in names]
        partitioned = set(names) != {"album"}
        return (
            self.definitions()
            .resolve_implicit_global_asset_job_def()
            .execute_in_process(
                instance=self.instance,
                run_config=QUIET,
                tags=range_tags(dg.PartitionKeyRange(first, last)) if partitioned else {},
                asset_selection=keys,
                raise_on_error=False,
            )
        )


THERE = ("castle", "harbour", "zoo")


def test_a_run_reads_what_it_has_just_made_and_is_told_what_is_missing(
    studio: ImageStudio, instance: dg.DagsterInstance
) -> None:
    readers = Readers(studio, instance)
    result = readers.run("winter/images", "posters", "album")
    assert not result.success
    assert readers.given == dict.fromkeys(("posters", "album"), (THERE, ("moon",), 3))
    made = instance.get_materialized_partitions(dg.AssetKey("posters"))
    assert made == set(THERE)
    pickles = [path for path in studio.folder.rglob("*") if "winter/images" in str(path)]
    assert [
        path for path in pickles if path.is_file() and path.parent.parent.name != "images"
    ] == []


def test_later_runs_read_the_partitions_that_they_ask_for(
    studio: ImageStudio, instance: dg.DagsterInstance
) -> None:
    readers = Readers(studio, instance)
    readers.run("winter/images")
    assert readers.run("posters", first="harbour", last="moon").success
    assert readers.given == {"posters": (("harbour",), ("moon",), 1)}
    assert readers.run("album").success
    assert readers.given == {"album": (THERE, ("moon",), 3)}


def test_nothing_is_made_of_a_partition_that_is_not_there(
    studio: ImageStudio, instance: dg.DagsterInstance
) -> None:
    readers = Readers(studio, instance)
    result = readers.run("posters", first="moon", last="moon")
    (failure,) = result.filter_events(lambda event: event.is_step_failure)
    assert "winter/images: nothing is there of moon" in str(failure.step_failure_data)
    assert readers.given == {}


@pytest.mark.filterwarnings("ignore:`parse_obj_as` is deprecated")
def test_a_component_gives_its_images_to_python_beside_it(project: Path) -> None:
    write_defs(project, "winter", HEAD + FOUR)
    (project / "src/other/defs/posters.py").write_text(
        "import dagster as dg\n"
        "from flux_pipeline import images_of\n"
        "@dg.definitions\n"
        "def mine(context: dg.ComponentLoadContext) -> dg.Definitions:\n"
        "    winter = images_of(context.component_tree.load_component('winter'))\n"
        "    @dg.asset(partitions_def=winter.partitions_def, deps=[winter.dep])\n"
        "    def posters() -> None: ...\n"
        "    return dg.Definitions(assets=[posters])\n"
    )
    with without_beta_warnings():
        graph = load(project).resolve_asset_graph()
    posters = graph.get(dg.AssetKey("posters"))
    assert posters.parent_keys == {dg.AssetKey(["winter", "images"])}
    assert posters.partitions_def == graph.get(dg.AssetKey(["winter", "images"])).partitions_def
