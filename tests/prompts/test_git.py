"""The commit of a prompt set's file, from real repositories."""

import os
import subprocess
from pathlib import Path

import pytest

from flux_pipeline.prompts.git import find_commit


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No other repository: not that of a git hook which runs pytest, and none around the folder."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "winter.yaml").write_text("a")
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=n", "-c", "user.email=e@x", "commit", "--quiet", "-m", "one")
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_a_committed_file_has_its_commit(repository: Path) -> None:
    assert find_commit(repository / "winter.yaml") == git(repository, "rev-parse", "HEAD")


def test_an_edited_file_says_so(repository: Path) -> None:
    (repository / "winter.yaml").write_text("b")
    assert find_commit(repository / "winter.yaml") == git(repository, "rev-parse", "HEAD") + "+"


def test_another_edited_file_does_not_matter(repository: Path) -> None:
    (repository / "other.yaml").write_text("b")
    assert not find_commit(repository / "winter.yaml").endswith("+")


@pytest.mark.parametrize("name", ["winter.yaml", "no/such/folder/winter.yaml", "--help"])
def test_without_a_repository_there_is_none(tmp_path: Path, name: str) -> None:
    assert find_commit(tmp_path / name) == ""


def test_without_a_commit_there_is_none(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    assert find_commit(tmp_path / "winter.yaml") == ""


def test_without_git_there_is_none(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert find_commit(repository / "winter.yaml") == ""
