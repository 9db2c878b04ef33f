"""`flux-pipeline init`: a folder that runs as it is, by the command that it prints."""

import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from flux_pipeline.cli import cli
from flux_pipeline.cli.init import FILES, init
from flux_pipeline.errors import ConfigError
from flux_pipeline.project import load_env_file
from flux_pipeline.prompts import load_prompt_sets
from flux_pipeline.settings import Settings


def test_the_folder_runs_by_the_command_that_it_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("FLUX_CONFIGS", "FLUX_PROVIDER", "DAGSTER_HOME"):
        monkeypatch.delenv(name, raising=False)
    done = CliRunner().invoke(cli, ["init", "new studio"])
    assert done.exit_code == 0, done.output
    assert {path for path in FILES if (tmp_path / "new studio" / path).is_file()} == set(FILES)
    command = done.output.splitlines()[-1].removeprefix("next: ")
    ran = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "first " in ran.stdout
    assert (tmp_path / "new studio/data/store/galleries/first/index.html").is_file()


def test_what_is_written_loads_without_a_warning(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["init", str(tmp_path)])
    assert done.exit_code == 0
    (prompt_set,) = load_prompt_sets(tmp_path / "configs")
    assert len(list(prompt_set.requests(None))) == 5
    assert not prompt_set.warnings


def test_the_example_of_an_environment_holds_settings_that_load(tmp_path: Path) -> None:
    CliRunner().invoke(cli, ["init", str(tmp_path)])
    text = (tmp_path / ".env.example").read_text()
    (tmp_path / ".env").write_text(text.replace("#FLUX", "FLUX"))
    environ: dict[str, str] = {}
    load_env_file(environ, tmp_path)
    settings = Settings.from_environment(environ)
    assert (settings.provider, settings.budget_usd_per_day) == ("replicate", 5.0)


def test_nothing_is_overwritten_and_nothing_is_written_beside_it(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / ".gitignore").write_text("mine")
    with pytest.raises(ConfigError) as raised:
        init.main([str(tmp_path)], standalone_mode=False)
    assert {Path(each.path).name for each in raised.value.problems} == {"README.md", ".gitignore"}
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", ".gitignore"}
    assert (tmp_path / "README.md").read_text() == "mine"
