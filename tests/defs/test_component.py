"""The component: a prompt set from another project's YAML, by path or by its keys."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

import flux_pipeline
from flux_pipeline.defs import component
from flux_pipeline.defs.component import PromptSet, PromptSetAttributes, PromptSetScaffolder
from flux_pipeline.errors import ConfigError
from flux_pipeline.prompts import json_schema, load_prompt_set

# Dagster's own loader calls what pydantic calls old.
pytestmark = pytest.mark.filterwarnings("ignore:`parse_obj_as` is deprecated")

MODEL = "lucataco/flux-schnell-lora"
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


def indented(text: str) -> str:
    return text.replace("\n", "\n  ")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Another project, with its own resource."""
    (tmp_path / "pyproject.toml").write_text(
        '[tool.dg]\ndirectory_type = "project"\n[tool.dg.project]\nroot_module = "other"\n'
    )
    defs = tmp_path / "src/other/defs"
    defs.mkdir(parents=True)
    (tmp_path / "src/other/__init__.py").touch()
    (defs / "__init__.py").touch()
    (defs / "resources.py").write_text(
        "import dagster as dg\nfrom flux_pipeline import ImageProducer\n"
        "@dg.definitions\ndef resources():\n"
        "    return dg.Definitions(resources={'image_producer': ImageProducer()})\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "other"]:
        del sys.modules[name]


def write_defs(project: Path, name: str, text: str) -> None:
    folder = project / "src/other/defs" / name
    folder.mkdir()
    (folder / "defs.yaml").write_text(f"type: flux_pipeline.PromptSet\nattributes:\n  {text}")


def load(project: Path) -> dg.Definitions:
    return dg.load_from_defs_folder(path_within_project=project / "src/other")


def attributes(**given: Any) -> PromptSet:
    return PromptSet.from_attributes_dict(attributes={"name": "winter", **given})


def test_attributes_are_those_of_a_file(project: Path) -> None:
    (project / "winter.yaml").write_text(FILE)
    write_defs(project, "winter", indented(FILE))
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
    write_defs(project, "winter", indented(text))
    (project / "src/other/defs/winter/t.csv").write_text("x\nfox\nowl\n")
    images = load(project).resolve_asset_graph().get(dg.AssetKey(["winter", "images"]))
    assert images.partitions_def is not None
    assert images.partitions_def.get_partition_keys() == ["a-fox", "a-owl"]


def test_a_ratio_may_stand_without_quotes_though_yaml_takes_it_for_a_number(project: Path) -> None:
    ratios = ["1:1", "16:9", "21:9", "3:2", "2:3", "4:5", "5:4", "3:4", "4:3", "9:16", "9:21"]
    prompts = "".join(
        f"\n  p{number}: {{prompt: a, aspect_ratio: {ratio}}}"
        for number, ratio in enumerate(ratios)
    )
    write_defs(project, "winter", indented(f"model: {MODEL}\nprompts:{prompts}"))
    (component,) = [
        dg.ComponentTree.for_project(project).load_component("winter", expected_type=PromptSet)
    ]
    requests = list(component.prompt_set.requests())
    assert [request.input["aspect_ratio"] for request in requests] == ratios


def test_all_mistakes_are_found_and_name_the_file(project: Path) -> None:
    text = f"model: {MODEL}\npromts: {{}}\nprompts: {{a: {{prompt: a, num_outputs: 9}}}}"
    write_defs(project, "winter", indented(text))
    with pytest.raises(Exception, match="Error while loading component") as raised:
        load(project)
    error: BaseException | None = raised.value
    while error is not None and not isinstance(error, ConfigError):
        error = error.__cause__
    assert isinstance(error, ConfigError)
    assert {problem.key for problem in error.problems} == {"promts", "prompts.a.num_outputs"}
    assert all("winter/defs.yaml" in problem.path for problem in error.problems)


def test_a_path_stands_alone() -> None:
    with pytest.raises(ConfigError, match="names a file, so prompts, name must stand there"):
        attributes(path="x.yaml", prompts={"a": "a"})


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigError, match=r"no-such\.yaml: no such file"):
        PromptSet.from_attributes_dict(attributes={"path": "no-such.yaml"})


def dg_commands(folder: Path, *commands: str) -> list[str]:
    """What these say, started at once: each takes seconds."""
    pytest.importorskip("dagster_dg_cli", reason="needs the extra ui: uv sync --extra ui")
    environ = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    running = [
        subprocess.Popen(
            [Path(sys.executable).parent / "dg", *command.split()],
            cwd=folder,
            env={**environ, "PYTHONPATH": str(folder / "src"), "PYTHONWARNINGS": "ignore"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]
    said = []
    for process in running:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, output + errors
        said.append(output)
    return said


def test_a_scaffolded_prompt_set_loads_as_it_is_by_dg_alone(project: Path) -> None:
    with (project / "pyproject.toml").open("a") as file:
        file.write('registry_modules = ["flux_pipeline"]\n')
    (project / "src/other/definitions.py").write_text(
        "from pathlib import Path\nimport dagster as dg\n"
        "@dg.definitions\ndef defs():\n"
        "    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)\n"
    )
    dg_commands(project, "scaffold defs flux_pipeline.PromptSet winter")
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


def scaffold(folder: Path, **given: Any) -> None:
    request = dg.ScaffoldRequest(
        type_name="flux_pipeline.PromptSet",
        target_path=folder,
        params=dg.ScaffoldRequest,
        **{"scaffold_format": "yaml", "project_root": folder.parent, **given},
    )
    PromptSetScaffolder().scaffold(request)


def test_scaffolding_appends_to_a_file_and_writes_python(tmp_path: Path) -> None:
    (tmp_path / "defs.yaml").write_text("type: other.Thing\n")
    scaffold(tmp_path / "defs.yaml", append=True)
    kinds = [each["type"] for each in yaml.safe_load_all((tmp_path / "defs.yaml").read_text())]
    assert kinds == ["other.Thing", "flux_pipeline.PromptSet"]
    scaffold(tmp_path, scaffold_format="python")
    assert "-> PromptSet" in (tmp_path / "component.py").read_text()


def test_in_this_project_a_prompt_set_is_scaffolded_as_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "defs/winter").mkdir(parents=True)
    monkeypatch.setattr(component, "__file__", str(tmp_path / "flux_pipeline/defs/component.py"))
    with pytest.raises(SystemExit) as ended:
        scaffold(tmp_path / "defs/winter", project_root=tmp_path)
    assert ended.value.code == 0
    assert not (tmp_path / "defs/winter").exists()
    assert "winter.yaml" in capsys.readouterr().out
    assert load_prompt_set(tmp_path / "configs/winter.yaml").partition_keys()
    with pytest.raises(SystemExit, match="is there already"):
        scaffold(tmp_path / "defs/winter", project_root=tmp_path)


def test_mistakes_in_attributes_have_their_line(project: Path) -> None:
    write_defs(project, "winter", indented(f"model: {MODEL}\nprompts: {{a: a}}\nfoo: 1"))
    with pytest.raises(Exception, match="Error while loading component") as raised:
        load(project)
    error: BaseException | None = raised.value
    while error is not None and not isinstance(error, ConfigError):
        error = error.__cause__
    assert isinstance(error, ConfigError)
    assert [(problem.key, problem.line) for problem in error.problems] == [("foo", 5)]


def test_editors_get_the_form_of_the_file() -> None:
    schema = PromptSetAttributes.model_json_schema()
    form = json_schema()
    assert set(schema["properties"]) == {"path", "name", *form["properties"]}
    assert "$ref" not in str(schema)
    assert len(schema["allOf"]) == len(form["allOf"])


def test_the_package_offers_what_projects_name_and_nothing_else() -> None:
    assert flux_pipeline.PromptSet is PromptSet
    assert {"PromptSet", "ImageProducer"} <= set(dir(flux_pipeline))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = flux_pipeline.Nothing


def test_importing_the_package_imports_no_dagster() -> None:
    code = "import sys, flux_pipeline, flux_pipeline.settings; print('dagster' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
