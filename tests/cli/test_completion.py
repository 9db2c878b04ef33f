"""Completion of the shell: installed once by one command, and the program answers it."""

import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from flux_pipeline.cli import cli
from tests.servers.processes import start_program


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "ZDOTDIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_it_is_installed_once_and_what_was_there_stays(home: Path, shell: str) -> None:
    start = home / f".{shell}rc"
    start.write_text("alias l=ls")
    outputs = [CliRunner().invoke(cli, ["completion", "install", shell]) for _ in range(2)]
    assert [each.exit_code for each in outputs] == [0, 0], outputs[0].output
    script = home / f".local/share/flux-pipeline/completion.{shell}"
    assert start.read_text() == f"alias l=ls\n. '{script}'  # completion of flux-pipeline\n"
    assert outputs[0].output.splitlines()[-1] == f"next: exec {shell}"
    if program := shutil.which(shell):
        subprocess.run([program, "-n", script], check=True)


def test_fish_finds_its_file_by_itself(home: Path) -> None:
    assert CliRunner().invoke(cli, ["completion", "install", "fish"]).exit_code == 0
    assert (home / ".config/fish/completions/flux-pipeline.fish").is_file()


def test_the_shell_is_that_of_the_user_or_has_to_be_named(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/zsh")
    shown = CliRunner().invoke(cli, ["completion", "show"])
    assert "#compdef flux-pipeline" in shown.output
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    refused = CliRunner().invoke(cli, ["completion", "install"])
    assert (refused.exit_code, "give one of them" in refused.output) == (2, True)


def test_the_program_answers_what_the_script_asks(tmp_path: Path) -> None:
    environ = {
        "_FLUX_PIPELINE_COMPLETE": "bash_complete",
        "COMP_WORDS": "flux-pipeline ver",
        "COMP_CWORD": "1",
    }
    _, printed = start_program([], folder=tmp_path, environ=environ).wait()
    assert printed.split() == ["plain,verify"]
