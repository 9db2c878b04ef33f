"""What the documents show is run, and what they list is what there is."""

import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import click
import dagster as dg
import pytest

from flux_pipeline import settings
from flux_pipeline.cli import _COMMANDS, cli
from flux_pipeline.cli.emulator import emulator
from flux_pipeline.definitions import defs
from flux_pipeline.defs import checks
from flux_pipeline.emulator import faults
from flux_pipeline.emulator.ledger import Ledger
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from flux_pipeline.ledger.base import State
from flux_pipeline.lineage.schema import SCHEMA
from flux_pipeline.models import MODELS
from flux_pipeline.produce.findings import Kind
from flux_pipeline.prompts import ByDay, load_prompt_sets
from flux_pipeline.prompts.form import PromptForm, PromptSetForm
from tests import documents
from tests.documents import DOCUMENTS, ROOT, Block, names, table
from tests.servers.processes import run_command

CONFIGURATION = "docs/configuration.md"
VARIABLES = [*settings._VARIABLES, settings.KEY_VARIABLES[0]]


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder with the repository's prompt sets and the documents' files; castle is made."""
    folder = tmp_path_factory.mktemp("studio")
    shutil.copytree(ROOT / "configs", folder / "configs")
    documents.write_files(folder)
    with EmulatorServer(EmulatorOptions(time_scale=0, render="cheap")) as server:
        environ = {
            "FLUX_PROVIDER": server.origin,
            "FLUX_API_KEY": "key-of-the-docs",
            "DAGSTER_HOME": str(folder / "data/dagster"),
        }
        code, _ = run_command(["run", "castle"], folder=folder, environ=environ)
        assert code == 0, (folder / "errors.txt").read_text()
        yield folder, environ


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_files(document: str) -> None:
    folder = (ROOT / document).parent
    broken = [
        link
        for link in documents.links(document)
        if not link.startswith("https://") and not (folder / link).exists()
    ]
    assert broken == []


def test_commands_print_what_is_shown(studio: tuple[Path, dict[str, str]]) -> None:
    folder, environ = studio
    ran = 0
    for block in documents.blocks("console"):
        for (program, *arguments), shown in documents.exchanges(block):
            if program != "flux-pipeline":
                continue
            (folder / "errors.txt").write_text("")
            run_command(arguments, folder=folder, environ=environ)
            printed = (folder / "output.json").read_text() or (folder / "errors.txt").read_text()
            assert documents.matches(shown, printed), f"{block} prints\n{printed}"
            ran += 1
    assert ran >= 5


@pytest.mark.parametrize(
    "block", [block for block in documents.blocks("python") if not block.path], ids=str
)
def test_python_blocks_run(
    studio: tuple[Path, dict[str, str]], block: Block, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "import duckdb" in block.text and find_spec("duckdb") is None:
        pytest.skip("duckdb is not among the dependencies")
    monkeypatch.chdir(studio[0])
    exec(compile(block.text, block.document, "exec"), {})  # noqa: S102  our own documents


@pytest.mark.parametrize(("document", "arguments"), documents.shell_commands("flux-pipeline"))
def test_commands_parse(
    document: str, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents.write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    context = cli.make_context("flux-pipeline", list(arguments))
    name, command, rest = cli.resolve_command(context, list(arguments))
    assert command is not None, f"{document}: {name}"
    command.make_context(name, rest, parent=context)


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", documents.read("Makefile"), re.MULTILINE))
    asked = {arguments[0] for _, arguments in documents.shell_commands("make")}
    assert asked <= targets
    assert "test" in asked


def test_prompt_sets_load(tmp_path: Path) -> None:
    documents.write_files(tmp_path)
    loaded = load_prompt_sets(tmp_path / "configs")
    assert {each.name for each in loaded} == {
        Path(block.path).stem
        for block in documents.blocks("yaml")
        if block.path.startswith("configs/")
    }
    assert not any(each.warnings for each in loaded)


def test_fault_plans_load(tmp_path: Path) -> None:
    documents.write_files(tmp_path)
    for path in (tmp_path / "faults").iterdir():
        assert faults.load_fault_plan(path).rates("create")


def test_the_session_in_the_readme_counts_what_the_prompt_sets_ask_for() -> None:
    session = next(b for b in documents.blocks("console", "README.md") if "make run" in b.text)
    shown = {
        words[0]: (int(words[1]), float(words[-1]))
        for words in map(str.split, session.text.splitlines())
        if len(words) == 8 and words[1].isdigit()
    }
    counted = {}
    for each in load_prompt_sets(ROOT / "configs"):
        cut = each.partitions
        requests = list(each.requests(str(cut.start) if isinstance(cut, ByDay) else None))
        images = sum(request.outputs for request in requests)
        counted[each.name] = images, round(sum(request.cost_usd for request in requests), 4)
    total = [sum(column) for column in zip(*counted.values(), strict=True)]
    assert shown == counted | {"total": (total[0], pytest.approx(total[1]))}


@pytest.mark.parametrize("document", ["README.md", CONFIGURATION])
def test_settings_are_listed_with_their_defaults(document: str) -> None:
    rows = table(document, "variable", "default", "meaning")
    assert {name: value for name, value, _ in rows} == default_settings()


def test_the_example_of_an_environment_holds_every_setting_at_its_default() -> None:
    text = documents.read(".env.example")
    given = dict(re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE))
    assert given == default_settings()
    assert settings.Settings.from_environment(given) == settings.Settings(ledger_given=True)


def default_settings() -> dict[str, str]:
    defaults = {field.name: field.default for field in fields(settings.Settings)}
    values = {name: defaults[field] for name, (field, _) in settings._VARIABLES.items()}
    return {name: written(value) for name, value in values.items()} | {
        settings.KEY_VARIABLES[0]: ""
    }


def written(value: Any) -> str:
    """A default as it would stand in a variable."""
    match value:
        case None:
            return ""
        case float():
            return f"{value:g}"
        case tuple():
            return ",".join(value)
    return str(value)


def test_every_variable_that_is_named_exists() -> None:
    for document in DOCUMENTS:
        named = set(re.findall(r"\bFLUX_[A-Z_]+\b", documents.read(document)))
        assert named <= set(VARIABLES), document


def test_commands_are_listed() -> None:
    rows = table("README.md", "command", "what it does", "exit code 1")
    assert [row[0].split()[1] for row in rows] == list(_COMMANDS)


def test_keys_of_a_prompt_set_are_listed() -> None:
    text = documents.read("docs/prompt-sets.md")
    for form in (PromptSetForm, PromptForm):
        for name in form.model_fields:
            assert f"\n| `{name}` | " in text


def test_inputs_of_the_model_are_listed_with_their_defaults() -> None:
    (model,) = MODELS
    rows = {row[0]: row[-1] for row in table("docs/prompt-sets.md", "input", "allowed", "default")}
    shown = {None: "none", False: "false"}
    expected = {
        name: shown.get(field.default, str(field.default))
        for name, field in model.input_type.model_fields.items()
        if name != "prompt"
    }
    assert rows == expected | {"seed": "derived"}


def test_columns_of_the_lineage_table_are_listed() -> None:
    rows = table("docs/lineage.md", "column", "type", "null", "unit", "meaning")
    expected = [
        [
            field.name,
            str(field.type),
            "yes" if field.nullable else "no",
            (field.metadata or {}).get(b"unit", b"").decode(),
        ]
        for field in SCHEMA
    ]
    assert [row[:4] for row in rows] == expected


def test_states_and_findings_are_listed() -> None:
    states = table("docs/reliability.md", "state", "meaning", "next")
    assert [row[0] for row in states] == [state.value for state in State]
    findings = table("docs/reliability.md", "finding", "meaning")
    assert [row[0] for row in findings] == [kind.value for kind in Kind]


def test_what_the_emulator_offers_is_listed() -> None:
    document = "docs/emulator.md"
    options, faulty, ledger, command = (
        [row[0] for row in table(document, *heading)]
        for heading in (
            ("option", "default", "meaning"),
            ("phase", "faults"),
            ("field", "meaning"),
            ("option", "default", "effect"),
        )
    )
    assert options == list(EmulatorOptions.model_fields)
    assert [phase for row in faulty for phase in names(row)] == list(get_args(faults.Phase))
    assert ledger == list(Ledger.model_fields)
    given = [p.opts[0] for p in emulator.params if isinstance(p, click.Option)]
    assert command == given


def test_faults_of_every_phase_are_listed() -> None:
    kinds: list[Any] = [
        faults.CreateFault,
        faults.OutcomeFault,
        faults.CallFault,
        faults.DownloadFault,
    ]
    rows = table("docs/emulator.md", "phase", "faults")
    assert [names(row[1]) for row in rows] == [list(get_args(kind)) for kind in kinds]


def test_jobs_schedules_and_checks_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "winter.yaml").write_text(
        "{model: lucataco/flux-schnell-lora, prompts: {fox: a fox},"
        " schedule: {cron: 0 6 * * *}, automation: on_change}"
    )
    monkeypatch.setenv("FLUX_CONFIGS", str(tmp_path))
    repository = defs().get_repository_def()
    automated = [*repository.schedule_defs, *repository.sensor_defs]
    there = {*repository.job_names, *(each.name for each in automated)}
    there = {name.replace("winter", "<set>") for name in there if not name.startswith("__")}
    assert {row[0] for row in table("docs/dagster.md", "name", "what")} == there
    shown = {row[0] for row in table("docs/dagster.md", "check", "holds if")}
    assert shown == set(checks._SENTENCES)


@pytest.mark.filterwarnings("ignore:`parse_obj_as` is deprecated")
def test_the_component_loads_in_another_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents.write_files(tmp_path)
    for folder in ("src/studio", "src/studio/defs"):
        (tmp_path / folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    try:
        loaded = dg.load_from_defs_folder(path_within_project=tmp_path / "src/studio")
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "studio"]:
            del sys.modules[name]
    keys = {key.to_user_string() for key in loaded.resolve_all_asset_keys()}
    assert {"winter/images", "summer/images"} <= keys
    assert loaded.resources is not None
    assert "image_producer" in loaded.resources


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads(documents.read("pyproject.toml"))
    wanted = [re.split(r"[<>=\[]", each)[0] for each in project["project"]["dependencies"]]
    assert [row[0] for row in table("CONTRIBUTING.md", "package", "why")] == wanted
    text = documents.read("CONTRIBUTING.md")
    for each in sum(project["project"]["optional-dependencies"].values(), []):
        assert f"`{re.split(r'[<>=[]', each)[0]}`" in text
