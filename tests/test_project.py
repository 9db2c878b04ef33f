"""The project around a folder, and its `.env` file with the precedence that it has for `dg`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flux_pipeline.errors import ConfigError
from flux_pipeline.project import find_dg_folder, load_env_file

PROJECT = '[tool.dg]\ndirectory_type = "project"\n[tool.dg.project]\nroot_module = "studio"\n'
WORKSPACE = '[tool.dg]\ndirectory_type = "workspace"\n[tool.dg.workspace]\n'


def write(folder: Path, pyproject: str = "", env: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if pyproject:
        (folder / "pyproject.toml").write_text(pyproject)
    if env:
        (folder / ".env").write_text(env)
    return folder


def test_the_file_of_the_nearest_project_counts_and_no_other(tmp_path: Path) -> None:
    write(tmp_path, WORKSPACE, "FLUX_STORE=file:workspace\n")
    root = write(tmp_path / "studio", PROJECT, "FLUX_STORE=file:project\n")
    below = write(root / "src/studio", "[tool.ruff]\n", "FLUX_STORE=file:below\n")
    environ: dict[str, str] = {}
    read = load_env_file(environ, below)
    assert environ == {"FLUX_STORE": "file:project"}
    assert (read.path, read.names) == (root / ".env", {"FLUX_STORE"})


def test_outside_of_a_project_the_folders_own_file_counts(tmp_path: Path) -> None:
    write(tmp_path, env="FLUX_STORE=file:above\n")
    here = write(tmp_path / "here", env="FLUX_STORE=file:here\n")
    environ: dict[str, str] = {}
    load_env_file(environ, here)
    assert environ == {"FLUX_STORE": "file:here"}
    assert load_env_file({}, tmp_path / "none").names == frozenset()


def test_the_file_replaces_what_is_set_and_says_so(tmp_path: Path) -> None:
    write(tmp_path, env="A=1\nB=2\nC\nD=${B}x\n")
    environ = {"A": "set", "B": "2", "C": "kept"}
    read = load_env_file(environ, tmp_path)
    assert environ == {"A": "1", "B": "2", "C": "kept", "D": "2x"}
    assert read.replaced == {"A"}


def test_dg_toml_goes_before_pyproject_and_names_are_as_dagster_makes_them(tmp_path: Path) -> None:
    write(tmp_path, PROJECT.replace("studio", "other"))
    (tmp_path / "dg.toml").write_text('directory_type = "project"\n[project]\nroot_module = "a"\n')
    found = find_dg_folder(tmp_path)
    assert found is not None
    assert (found.defs_module, found.definitions_module) == ("a.defs", "a.definitions")
    assert found.code_location == tmp_path.name


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        (".env", b"A=\xff\n", "it is not UTF-8"),
        ("pyproject.toml", b"[tool.dg\nkey = 'canary'\n", "is no TOML"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_message_without_its_text(
    tmp_path: Path, name: str, text: bytes, why: str
) -> None:
    (tmp_path / name).write_bytes(text)
    with pytest.raises(ConfigError) as raised:
        load_env_file({}, tmp_path)
    (problem,) = raised.value.problems
    assert (problem.path, why in problem.message) == (str(tmp_path / name), True)
    assert "canary" not in str(raised.value)


def test_dagster_reads_the_same_values_with_the_same_precedence(tmp_path: Path) -> None:
    """Dagster's own code, in a process of its own: if it changes its mind, this test says so."""
    write(tmp_path, PROJECT, "A=file\nB='quoted' # comment\nexport C=${A}/x\nD\n")
    code = (
        "import json, logging, os\n"
        "from dagster._cli.utils import _inject_local_env_file\n"
        "with _inject_local_env_file(logging.getLogger()):\n"
        "    print(json.dumps({name: os.environ.get(name) for name in 'ABCD'}))\n"
    )
    given = {"A": "set", "D": "set"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], **given},
        capture_output=True,
        check=True,
        text=True,
    )
    load_env_file(given, tmp_path)
    assert json.loads(done.stdout) == given
