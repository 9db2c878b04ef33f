"""What dg writes, lists and says of the components, in another project and in this one."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from flux_pipeline.defs import components
from flux_pipeline.defs.components import PromptSetScaffolder, SharedAssetsScaffolder
from flux_pipeline.prompts import load_prompt_set
from tests.defs.component_project import run_dg, write_project
from tests.servers.dagster_home import write_dagster_home

FOLLOWER = """\
from pathlib import Path

import dagster as dg

from flux_pipeline import Images, images_of


@dg.definitions
def posters(context: dg.ComponentLoadContext):
    winter = images_of(context.component_tree.load_component("winter"))

    @dg.asset(ins={"images": dg.AssetIn(key=winter.key)}, partitions_def=winter.partitions_def)
    def sizes(context, images: Images):
        made = [f"{image.partition}: {image.record.prompt_name}" for image in images]
        Path("sizes.txt").write_text(", ".join(made))

    return dg.Definitions(assets=[sizes])
"""


@pytest.fixture(scope="module")
def scaffolded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Another project with a prompt set and the shared assets, as dg has written them."""
    folder = tmp_path_factory.mktemp("scaffolded")
    write_project(folder)
    (folder / "src/other/defs/resources.py").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder / "src"))
        run_dg(
            folder,
            "scaffold defs flux_pipeline.PromptSet winter",
            "scaffold defs flux_pipeline.SharedAssets shared",
        )
        (folder / "src/other/defs/posters.py").write_text(FOLLOWER)
        yield folder


def test_what_is_scaffolded_is_listed_as_it_is(scaffolded: Path) -> None:
    listed = json.loads(run_dg(scaffolded, "list defs --json"))
    assets = {each["asset_key"]: each for each in listed["assets"]}
    assert set(assets) == {
        *(f"winter/{name}" for name in ("prompts", "images", "gallery")),
        *("lineage", "spend", "gallery"),
        "sizes",
    }
    assert assets["winter/images"]["source"] == "src/other/defs/winter/defs.yaml:4"
    assert assets["winter/images"]["kinds"] == ["image"]


def test_dg_checks_what_is_scaffolded_and_shows_what_it_and_its_attributes_are_for(
    scaffolded: Path,
) -> None:
    said = run_dg(
        scaffolded,
        "check yaml",
        "utils inspect-component flux_pipeline.PromptSet",
        "utils inspect-component flux_pipeline.SharedAssets",
        "--help",
    )
    assert "All component YAML validated successfully." in said
    assert "Images of a list of prompts" in said
    assert "num_inference_steps" in said
    assert "What all prompt sets share" in said
    assert "the project's own definitions have it" in said
    assert "scaffold" in said, "some releases of typer leave dg's commands out"


def test_what_is_scaffolded_makes_images(scaffolded: Path) -> None:
    """As a newcomer does it: dg alone, the emulator, and the executor that Dagster has."""
    run_dg(scaffolded, "launch --job make_winter")
    assert len(list((scaffolded / "data/store/images/winter").rglob("*.webp"))) == 3


def test_dg_launches_the_shared_assets_and_one_of_ones_own_with_the_images_it_depends_on(
    scaffolded: Path, tmp_path: Path
) -> None:
    write_dagster_home(tmp_path)
    config = json.dumps({"execution": {"config": {"in_process": {}}}}, separators=(",", ":"))
    run_dg(
        scaffolded,
        f'launch --assets key:"winter/*",sizes --partition castle --config-json {config}',
        "launch --job refresh_shared_assets",
        DAGSTER_HOME=str(tmp_path),
    )
    assert (scaffolded / "sizes.txt").read_text() == "castle: castle"
    assert (scaffolded / "data/store/galleries/index.html").exists()


def scaffold(folder: Path, kind: str = "PromptSet", **given: Any) -> None:
    request = dg.ScaffoldRequest(
        type_name=f"flux_pipeline.{kind}",
        target_path=folder,
        params=dg.ScaffoldRequest,
        **{"scaffold_format": "yaml", "project_root": folder.parent, **given},
    )
    {"PromptSet": PromptSetScaffolder, "SharedAssets": SharedAssetsScaffolder}[kind]().scaffold(
        request
    )


def test_scaffolding_appends_to_a_file_and_writes_python(tmp_path: Path) -> None:
    (tmp_path / "defs.yaml").write_text("type: other.Thing\n")
    scaffold(tmp_path / "defs.yaml", append=True)
    kinds = [each["type"] for each in yaml.safe_load_all((tmp_path / "defs.yaml").read_text())]
    assert kinds == ["other.Thing", "flux_pipeline.PromptSet"]
    scaffold(tmp_path / "defs.yaml", "SharedAssets", append=True)
    (*_, shared) = yaml.safe_load_all((tmp_path / "defs.yaml").read_text())
    assert shared["attributes"] == {"image_producer": "environment"}
    for kind in ("PromptSet", "SharedAssets"):
        scaffold(tmp_path, kind, scaffold_format="python")
        assert f"-> {kind}" in (tmp_path / "component.py").read_text()


def test_in_this_project_a_prompt_set_is_scaffolded_as_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "defs/winter").mkdir(parents=True)
    here = str(tmp_path / "flux_pipeline/defs/components.py")
    monkeypatch.setattr(components, "__file__", here)
    with pytest.raises(SystemExit) as ended:
        scaffold(tmp_path / "defs/winter", project_root=tmp_path)
    assert ended.value.code == 0
    assert not (tmp_path / "defs/winter").exists()
    assert "winter.yaml" in capsys.readouterr().out
    assert load_prompt_set(tmp_path / "configs/winter.yaml").partition_keys()
    with pytest.raises(SystemExit, match="is there already"):
        scaffold(tmp_path / "defs/winter", project_root=tmp_path)
    (tmp_path / "defs/shared").mkdir()
    with pytest.raises(SystemExit, match="the shared assets are there already"):
        scaffold(tmp_path / "defs/shared", "SharedAssets", project_root=tmp_path)
    assert not (tmp_path / "defs/shared").exists()
