"""What the documents show is run: commands, Python, prompt sets, and a project of somebody else."""

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import click
import dagster as dg
import pytest
from PIL import Image

from flux_pipeline.cli import cli
from flux_pipeline.emulator.faults import load_fault_plan
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from flux_pipeline.prompts import ByDay, load_prompt_sets
from tests import documents
from tests.documents import DOCUMENTS, ROOT, Block
from tests.servers.processes import run_command, start_program


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder with the repository's prompt sets and the documents' files; castle is made."""
    folder = tmp_path_factory.mktemp("studio")
    shutil.copytree(ROOT / "configs", folder / "configs")
    documents.write_files(folder)
    (folder / "data/dagster").mkdir(parents=True)
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
    "block",
    [
        block
        for block in documents.blocks("python")
        if not block.path
        and not (block.document == "docs/lineage.md" and "my-bucket" in block.text)
        # those run on a bucket in lineage/test_docs_examples.py
    ],
    ids=str,
)
def test_python_blocks_run(
    studio: tuple[Path, dict[str, str]], block: Block, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "import duckdb" in block.text and find_spec("duckdb") is None:
        pytest.skip("duckdb is not among the dependencies")
    monkeypatch.chdir(studio[0])
    exec(compile(block.text, block.document, "exec"), {})  # noqa: S102  our own documents


def test_commands_parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents.write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    wrong = []
    for document, arguments in documents.shell_commands("flux-pipeline"):
        try:
            context = cli.make_context("flux-pipeline", list(arguments))
            name, command, rest = cli.resolve_command(context, list(arguments))
            assert command is not None
            command.make_context(name, rest, parent=context)
        except (click.UsageError, click.exceptions.Exit) as error:
            wrong.append((document, arguments, repr(error)))
    assert wrong == []


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", documents.read("Makefile"), re.MULTILINE))
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
        plan = load_fault_plan(path)
        assert plan.rates("create") or plan.lasting


def test_the_session_in_the_readme_counts_what_the_prompt_sets_ask_for() -> None:
    session = next(b for b in documents.blocks("console", "README.md") if "make run" in b.text)
    shown = {
        words[0]: (int(words[2]), float(words[-1]))
        for words in map(str.split, session.text.splitlines())
        if len(words) == 10 and words[1].isdigit()
    }
    counted = {}
    for each in load_prompt_sets(ROOT / "configs"):
        cut = each.partitions
        requests = list(each.requests(str(cut.start) if isinstance(cut, ByDay) else None))
        images = sum(request.outputs for request in requests)
        counted[each.name] = images, round(sum(request.cost_usd for request in requests), 4)
    total = [sum(column) for column in zip(*counted.values(), strict=True)]
    assert shown == counted | {"total": (total[0], pytest.approx(total[1]))}


def test_the_readme_is_short_before_its_reference() -> None:
    before, _, _ = documents.read("README.md").partition("\n## Reference")
    assert len(documents.words(before)) <= 450


def test_what_shows_a_promise_runs(studio: tuple[Path, dict[str, str]]) -> None:
    folder, environ = studio
    shown = documents.table("README.md", "promise", "shown by")
    commands = [shlex.split(cell.split(";")[0].split(", ")[0]) for _, cell in shown]
    assert {"flux-pipeline", "make", "pytest"} == {command[0] for command in commands}
    for program, *arguments in commands:
        match program:
            case "flux-pipeline":
                code, _ = run_command(arguments, folder=folder, environ=environ)
                assert code == 0, (arguments, (folder / "errors.txt").read_text())
            case "make":
                assert f"\n{arguments[0]}: " in documents.read("Makefile")
            case _:
                assert (ROOT / arguments[0]).is_file()


@pytest.mark.parametrize("name", ["gallery", "graph"])
def test_pictures_of_the_readme_are_small_and_sharp(name: str) -> None:
    path = ROOT / "docs/images" / f"{name}.webp"
    assert path.stat().st_size <= 120_000
    with Image.open(path) as picture:
        assert picture.width == 2 * 800


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
    assert {"winter/images", "summer/images", "lineage"} <= keys
    assert loaded.resources is not None
    assert loaded.resources["image_producer"].provider == "replicate"
    dg.Definitions.validate_loadable(loaded)


def test_the_templates_of_tests_pass(tmp_path: Path) -> None:
    documents.write_files(tmp_path)
    for folder in ("src/studio", "src/studio/defs"):
        (tmp_path / folder / "__init__.py").touch()
    program = start_program(
        ["-q", "-p", "no:cacheprovider", "-o", "pythonpath=src", "tests"],
        folder=tmp_path,
        environ={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # they are those of this repository
        entry="pytest:console_main",
    )
    code, printed = program.wait()
    assert code == 0, printed
