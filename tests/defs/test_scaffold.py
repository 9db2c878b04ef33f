"""What dg writes, lists and says of the components, in another project and in this one."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from flux_pipeline.defs import components as scaffold_module
from flux_pipeline.defs.components import PromptSetScaffolder, SharedAssetsScaffolder
from flux_pipeline.prompts import load_prompt_set
from tests.defs.elsewhere import dg_commands


def test_a_scaffolded_prompt_set_loads_as_it_is_by_dg_alone(project: Path) -> None:
    list(dg_commands(project, "scaffold defs flux_pipeline.PromptSet winter"))
    listed, about, usage = dg_commands(
        project,
        "list defs --json",
        "utils inspect-component flux_pipeline.PromptSet",
        "--help",
    )
    assets = {each["asset_key"]: each for each in json.loads(listed)["assets"]}
    assert set(assets) == {"winter/prompts", "winter/images", "winter/gallery"}
    assert assets["winter/images"]["source"] == "src/other/defs/winter/defs.yaml:4"
    assert assets["winter/images"]["kinds"] == ["image"]
    assert "Images of a list of prompts" in about
    assert "num_inference_steps" in about
    assert "scaffold" in usage, "some releases of typer leave dg's commands out"


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
    (*_, books) = yaml.safe_load_all((tmp_path / "defs.yaml").read_text())
    assert books["attributes"] == {"image_producer": "environment"}
    for kind in ("PromptSet", "SharedAssets"):
        scaffold(tmp_path, kind, scaffold_format="python")
        assert f"-> {kind}" in (tmp_path / "component.py").read_text()


def test_in_this_project_a_prompt_set_is_scaffolded_as_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "defs/winter").mkdir(parents=True)
    here = str(tmp_path / "flux_pipeline/defs/scaffold.py")
    monkeypatch.setattr(scaffold_module, "__file__", here)
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
