"""Edited prompt sets of another project: noticed, reloaded, or reported with what is wrong."""

from pathlib import Path

import dagster as dg
import pytest

from tests.defs.component_project import MODEL, load, write_defs
from tests.defs.web_interface import NOWHERE, RELOADED, ConfigsSensor, web_interface

pytestmark = pytest.mark.filterwarnings("ignore:`parse_obj_as` is deprecated")

HEAD = f"model: {MODEL}\n"
UNCHANGED = "Files unchanged since they were loaded: "


@pytest.fixture
def changing(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a set in its file, one in a file elsewhere, and the shared assets."""
    monkeypatch.setenv("FLUX_UI_URL", NOWHERE)
    write_defs(project, "ice", f"{HEAD}prompts: {{a: a, b: b}}\n")
    (project / "sun.yaml").write_text(f"{HEAD}prompts: {{a: a}}\n")
    write_defs(project, "sun", "path: ../../../../sun.yaml\n")
    write_defs(project, "shared", "image_producer: project", kind="SharedAssets")
    return project


def ticking(project: Path, instance: dg.DagsterInstance) -> ConfigsSensor:
    return ConfigsSensor(load(project), instance)


def test_nothing_is_asked_where_nothing_changed(
    changing: Path, instance: dg.DagsterInstance
) -> None:
    assert ticking(changing, instance).said() == f"{UNCHANGED}4."  # sun's own too


def test_an_edit_reloads_the_code_location_once(
    changing: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    with web_interface(RELOADED, place=changing / "src/other/defs") as (ui_url, got):
        monkeypatch.setenv("FLUX_UI_URL", ui_url)
        sensor = ticking(changing, instance)
        write_defs(changing, "ice", f"{HEAD}prompts: {{a: a, b: other, c: c}}\n")
        said = sensor.said()
        assert "ice/defs.yaml changed (ice: 1 edited (b), 1 new (c))" in said
        assert said.endswith("was reloaded")
        assert sensor.said() == said
    assert len(got) == 1


def test_the_file_that_a_component_names_is_watched(
    changing: Path, instance: dg.DagsterInstance
) -> None:
    sensor = ticking(changing, instance)
    (changing / "sun.yaml").write_text(f"{HEAD}prompts: {{a: other}}\n")
    said = sensor.said()
    assert "sun.yaml changed (sun: 1 edited (a))" in said
    assert f"press Reload at {NOWHERE}/locations" in said


def test_a_table_in_the_components_folder_is_watched(
    changing: Path, instance: dg.DagsterInstance
) -> None:
    table = changing / "src/other/defs/ice/t.csv"
    table.write_text("x\nfox\n")
    write_defs(changing, "ice", HEAD + 'prompts: {a: {prompt: "a {x}", table: t.csv, key: x}}\n')
    sensor = ticking(changing, instance)
    assert sensor.said().startswith(UNCHANGED)
    table.write_text("x\nfox\nowl\n")
    assert "ice: its table is another, 1 new (a-owl)" in sensor.said()


def test_picks_in_the_components_folder_are_watched_and_what_they_choose_is_an_asset(
    changing: Path, instance: dg.DagsterInstance
) -> None:
    publish = "choose: picks/ice.csv\npublish: {variants: {web: {width: 640}}}\n"
    write_defs(changing, "ice", f"{HEAD}{publish}prompts: {{a: a}}\n")
    keys = {key.to_user_string() for key in load(changing).resolve_all_asset_keys()}
    assert "ice/published" in keys
    assert "sun/published" not in keys
    sensor = ticking(changing, instance)
    assert sensor.said().startswith(UNCHANGED)
    picks = changing / "src/other/defs/ice/picks/ice.csv"
    picks.parent.mkdir()
    picks.write_text("prompt,take\na,1\n")
    assert "ice.csv changed (ice: other picks)" in sensor.said()


def test_new_and_gone_components_are_noticed(changing: Path, instance: dg.DagsterInstance) -> None:
    sensor = ticking(changing, instance)
    write_defs(changing, "rain", f"{HEAD}prompts: {{a: a}}\n")
    (changing / "src/other/defs/ice/defs.yaml").unlink()
    assert "ice is gone, its pictures stay; rain is new" in sensor.said()


def test_a_set_that_python_makes_of_a_file_is_watched(
    changing: Path, instance: dg.DagsterInstance
) -> None:
    (changing / "fog.yaml").write_text(f"{HEAD}prompts: {{a: a}}\n")
    (changing / "src/other/defs/fog.py").write_text(
        "import dagster as dg\nfrom flux_pipeline import PromptSet\n"
        "@dg.component_instance\n"
        "def load(context: dg.ComponentLoadContext) -> PromptSet:\n"
        "    given = {'path': '../../../fog.yaml'}\n"
        "    return PromptSet.from_attributes_dict(attributes=given, context=context)\n"
    )
    sensor = ticking(changing, instance)
    (changing / "fog.yaml").write_text(f"{HEAD}prompts: {{a: a, b: b}}\n")
    assert "fog: 1 new (b)" in sensor.said()


def test_what_is_not_ours_is_left_to_the_project(
    changing: Path, instance: dg.DagsterInstance
) -> None:
    theirs = changing / "src/other/defs/theirs"
    theirs.mkdir()
    (theirs / "defs.yaml").write_text("type: dagster.DefsFolderComponent\n")
    sensor = ticking(changing, instance)
    (theirs / "defs.yaml").write_text("type: dagster.DefsFolderComponent\nattributes: {}\n")
    assert sensor.said() == f"{UNCHANGED}4."


def test_a_mistake_is_reported_with_its_line_and_nothing_is_reloaded(
    changing: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    with web_interface() as (ui_url, got):
        monkeypatch.setenv("FLUX_UI_URL", ui_url)
        sensor = ticking(changing, instance)
        write_defs(changing, "ice", f"{HEAD}prompts:\n  a: {{prompt: a, num_outputs: 9}}\n")
        said = sensor.said()
        assert "ice/defs.yaml changed; not loaded, the prompt sets before it go on:" in said
        assert "ice/defs.yaml:5: prompts.a.num_outputs" in said
    assert got == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("type: flux_pipeline.PromptSet\nattributes: [", "while parsing"),
        ("type: flux_pipeline.PromptSat\n", "PromptSat"),
    ],
)
def test_what_dagster_refuses_is_reported_in_its_words(
    changing: Path, instance: dg.DagsterInstance, text: str, said: str
) -> None:
    sensor = ticking(changing, instance)
    (changing / "src/other/defs/ice/defs.yaml").write_text(text)
    message = sensor.said()
    assert "ice/defs.yaml changed; not loaded" in message
    assert said in message


def test_two_sets_of_one_name_are_reported(changing: Path, instance: dg.DagsterInstance) -> None:
    sensor = ticking(changing, instance)
    write_defs(changing, "rain", f"name: ice\n{HEAD}prompts: {{a: a}}\n")
    assert "is named ice, and so is one in " in sensor.said()


def test_prompts_of_an_edited_set_are_read_again_once(changing: Path) -> None:
    prompts = dg.AssetKey(["ice", "prompts"])
    with dg.DagsterInstance.ephemeral() as instance:
        for key in ("a", "b"):
            job = load(changing).resolve_implicit_global_asset_job_def()
            assert job.execute_in_process(
                instance=instance, asset_selection=[prompts], partition_key=key
            ).success
        write_defs(changing, "ice", f"{HEAD}prompts: {{a: a, b: other}}\n")

        sensor = ticking(changing, instance)

        (request,) = sensor.tick()[1]
        assert request.asset_selection == [prompts]
        assert request.tags["dagster/asset_partition_range_end"] == "b"
        assert sensor.tick() == (f"{UNCHANGED}4.", [])
