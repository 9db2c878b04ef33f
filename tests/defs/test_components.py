"""The component: a prompt set from another project's YAML, by path or by its keys."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

import flux_pipeline
from flux_pipeline.defs.components import PromptSet
from flux_pipeline.errors import ConfigError
from flux_pipeline.prompts import load_prompt_set
from tests.defs.component_project import MODEL, load, load_sets, problems, write_defs

# Dagster's own loader calls what pydantic calls old.
pytestmark = pytest.mark.filterwarnings("ignore:`parse_obj_as` is deprecated")

FILE = f"""
description: Winter campaign
model: {MODEL}
owners: ["team:studio"]
tags: {{campaign: winter}}
defaults: {{aspect_ratio: 16:9}}
prompts:
  castle: a castle
  moon: {{prompt: "the {{phase}} moon", matrix: {{phase: [full, new]}}, takes: 2}}
schedule: {{cron: "0 6 * * *"}}
budget: {{usd_per_run: 5}}
"""


def attributes(**given: Any) -> PromptSet:
    return PromptSet.from_attributes_dict(attributes={"name": "winter", **given})


def test_attributes_are_those_of_a_file(project: Path) -> None:
    (project / "winter.yaml").write_text(FILE)
    write_defs(project, "winter", FILE)
    definitions = load(project)
    by_file = load_prompt_set(project / "winter.yaml")
    keys = {key.to_user_string() for key in definitions.resolve_all_asset_keys()}
    assert keys == {"winter/prompts", "winter/images", "winter/gallery"}
    images = definitions.resolve_asset_graph().get(dg.AssetKey(["winter", "images"]))
    assert images.partitions_def is not None
    assert tuple(images.partitions_def.get_partition_keys()) == by_file.partition_keys()
    assert images.owners == ["team:studio"]
    assert images.tags["campaign"] == "winter"
    assert definitions.resolve_job_def("make_winter")
    assert definitions.resolve_schedule_def("make_winter_on_time").cron_schedule == "0 6 * * *"


def test_a_path_is_looked_for_from_the_components_folder(project: Path) -> None:
    (project / "prompts").mkdir()
    (project / "prompts/summer.yaml").write_text(FILE)
    write_defs(project, "anything", "path: ../../../../prompts/summer.yaml")
    keys = load(project).resolve_all_asset_keys()
    assert {key.path[0] for key in keys} == {"summer"}


def test_a_table_is_looked_for_in_the_components_folder(project: Path) -> None:
    text = f'model: {MODEL}\nprompts: {{a: {{prompt: "a {{x}}", table: t.csv, key: x}}}}'
    write_defs(project, "winter", text)
    (project / "src/other/defs/winter/t.csv").write_text("x\nfox\nowl\n")
    images = load(project).resolve_asset_graph().get(dg.AssetKey(["winter", "images"]))
    assert images.partitions_def is not None
    assert images.partitions_def.get_partition_keys() == ["a-fox", "a-owl"]


def test_several_components_share_a_file_if_each_has_a_name(project: Path) -> None:
    bodies = [f"name: {name}\nmodel: {MODEL}\nprompts: {{{name}: a}}" for name in ("ice", "snow")]
    write_defs(project, "winter", *bodies)
    assert {each.prompt_set.name for each in load_sets(project)} == {"ice", "snow"}
    keys = {key.to_user_string() for key in load(project).resolve_all_asset_keys()}
    assert {"ice/images", "snow/images"} <= keys


def test_a_component_is_made_in_python_too(project: Path) -> None:
    (project / "src/other/defs/winter.py").write_text(
        "import dagster as dg\nfrom flux_pipeline import PromptSet\n"
        "@dg.component_instance\n"
        "def load(context: dg.ComponentLoadContext) -> PromptSet:\n"
        f"    given = {{'model': '{MODEL}', 'prompts': {{'a': 'a'}}}}\n"
        "    return PromptSet.from_attributes_dict(attributes=given, context=context)\n"
    )
    keys = {key.to_user_string() for key in load(project).resolve_all_asset_keys()}
    assert "winter/images" in keys


def test_a_component_of_the_projects_own_may_make_one(project: Path) -> None:
    """The text around is that component's, and is not read for this one's."""
    (project / "src/other/studio.py").write_text(
        "import dagster as dg\nfrom flux_pipeline import PromptSet\n"
        "class Studio(dg.Component, dg.Model, dg.Resolvable):\n"
        "    prompts: list[str]\n"
        "    def build_defs(self, context):\n"
        "        prompts = {each: each for each in self.prompts}\n"
        f"        given = {{'model': '{MODEL}', 'prompts': prompts}}\n"
        "        made = PromptSet.from_attributes_dict(attributes=given, context=context)\n"
        "        return made.build_defs(context)\n"
    )
    path = write_defs(project, "winter", "prompts: [fox, owl]")
    path.write_text(path.read_text().replace("flux_pipeline.PromptSet", "other.studio.Studio"))
    images = load(project).resolve_asset_graph().get(dg.AssetKey(["winter", "images"]))
    assert images.partitions_def is not None
    assert images.partitions_def.get_partition_keys() == ["fox", "owl"]


PRINT = """
model: nightmareai/real-esrgan
prompts: {print: {each: winter, image: "{image}"}}
"""


def test_a_component_is_made_for_the_pictures_of_the_one_beside_it(project: Path) -> None:
    write_defs(project, "a_print", PRINT)
    write_defs(project, "winter", FILE)
    definitions = load(project)
    images = definitions.resolve_asset_graph().get(dg.AssetKey(["a_print", "images"]))
    assert dg.AssetKey(["winter", "images"]) in images.parent_keys
    assert images.partitions_def is not None
    assert set(images.partitions_def.get_partition_keys()) == {"castle", "moon-full", "moon-new"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a_print": PRINT}, "no component winter beside this one"),
        (
            {"a_print": PRINT, "winter": PRINT.replace("each: winter", "each: a_print")},
            "goes in a circle: a_print -> winter -> a_print",
        ),
    ],
)
def test_a_chain_of_components_that_can_not_be_is_refused(
    project: Path, files: dict[str, str], expected: str
) -> None:
    for name, text in files.items():
        write_defs(project, name, text)
    assert any(expected in problem.message for problem in problems(project))


def test_a_path_stands_alone(project: Path) -> None:
    with pytest.raises(ConfigError, match="names a file, so prompts, name must stand there"):
        attributes(path="x.yaml", prompts={"a": "a"})
    write_defs(project, "winter", "path: x.yaml\nmodel: y\nmodel: z")
    assert [(each.line, each.key) for each in problems(project)] == [(3, "path"), (5, "model")]


def test_a_file_that_is_not_there_is_reported() -> None:
    with pytest.raises(ConfigError, match=r"no-such\.yaml: no such file"):
        PromptSet.from_attributes_dict(attributes={"path": "no-such.yaml"})


def test_the_package_offers_what_projects_name_and_nothing_else() -> None:
    assert flux_pipeline.PromptSet is PromptSet
    offered = {"PromptSet", "SharedAssets", "ImageProducer", "AlertSender"}
    assert {name for name in dir(flux_pipeline) if not name.startswith("_")} >= offered
    assert all(getattr(flux_pipeline, name).__name__ == name for name in offered)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = flux_pipeline.Nothing
