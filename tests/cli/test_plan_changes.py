"""`plan --changed-since`, in a real git repository; and the workflow that comments it."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from flux_pipeline.cli import cli
from flux_pipeline.cli.plan import MARK, MOST_CHARACTERS, Plan, SetPlan, as_markdown
from flux_pipeline.emulator.server import EmulatorServer
from flux_pipeline.produce.plan import Changes, SetForecast
from tests.cli.conftest import Command, Make

ROOT = Path(__file__).parents[2]
WORKFLOW = ".github/workflows/plan.yml"

if shutil.which("git") is None:
    pytest.skip("needs git: apt-get install git", allow_module_level=True)

SHOP = """
model: lucataco/flux-schnell-lora
prompts: {product: {prompt: "{name}, studio light", table: tables/p.csv, key: sku}}
"""
DIARY = """
model: lucataco/flux-schnell-lora
partitions: {by: day, start: 2026-01-01}
prompts: {a: "on {date}", b: "b on {date}"}
"""


def git(folder: Path, *arguments: str) -> str:
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
        **{
            f"GIT_{who}_{what}": "a@b.example"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        },
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        check=True,
        capture_output=True,
        text=True,
        env=environ,
    )
    return done.stdout.strip()


@pytest.fixture
def repository(folder: Path) -> Path:
    """The folder with its two sets and two more, and a copy of all deeper, in one commit."""
    (folder / "configs/tables").mkdir()
    (folder / "configs/tables/p.csv").write_text("sku,name\nx1,chair\nx2,table\n")
    (folder / "configs/shop.yaml").write_text(SHOP)
    (folder / "configs/diary.yaml").write_text(DIARY)
    shutil.copytree(folder / "configs", folder / "a b/configs")
    (folder / ".gitattributes").write_text("*.yaml export-ignore\n")
    git(folder, "init", "--quiet")
    git(folder, "add", "--all", ".gitattributes", "configs", "a b")
    git(folder, "commit", "--quiet", "--message", "one")
    return folder


@pytest.fixture
def changes(command: Command, repository: Path) -> Callable[..., dict[str, Any]]:
    def compare(*arguments: str) -> dict[str, Any]:
        code, output, errors = command("plan", "--json", "--changed-since", "HEAD", *arguments)
        assert (code, errors) == (0, "")
        return output

    assert repository.is_dir()
    return compare


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def lists(output: dict[str, Any], name: str) -> tuple[list[str], list[str], list[str]]:
    each = output["sets"][name]
    return each["added"], each["edited"], each["removed"]


def test_without_a_change_nothing_is_new(changes: Callable[..., dict[str, Any]]) -> None:
    output = changes()
    assert (output["total"]["requests"], output["total"]["new"], output["total"]["usd"]) == (
        7,
        0,
        0,
    )
    assert output["total"]["unchanged"] == 7
    assert output["changed_since"] == "HEAD"
    assert re.fullmatch("[0-9a-f]{40}", output["commit"])
    assert (output["added"], output["edited"], output["removed"]) == ([], [], [])


def test_only_what_changed_is_new(
    changes: Callable[..., dict[str, Any]], repository: Path, server: EmulatorServer
) -> None:
    edit(repository / "configs/tale.yaml", "frog: a frog", "moon: the moon")
    edit(repository / "configs/tale.yaml", "a king", "a queen")
    with (repository / "configs/tables/p.csv").open("a") as table:
        table.write("x3,lamp\n")
    (repository / "configs/map.yaml").rename(repository / "configs/chart.yaml")
    (repository / "configs/diary.yaml").unlink()

    output = changes()

    assert lists(output, "tale") == (["moon"], ["king"], ["frog"])
    assert lists(output, "shop") == (["product-x3"], [], [])
    assert lists(output, "chart") == (["map"], [], [])
    assert lists(output, "map") == ([], [], ["map"])
    assert lists(output, "diary") == ([], [], ["a", "b"])
    assert output["added"] == ["chart"]
    assert output["edited"] == ["shop", "tale"]
    assert output["removed"] == ["diary", "map"]
    new = {name: each["new"] for name, each in output["sets"].items()}
    assert new == {"tale": 2, "shop": 1, "chart": 1, "map": 0, "diary": 0}
    assert output["total"]["usd"] == pytest.approx(4 * 0.003)
    assert server.usage().creates_received == 0


def test_what_was_made_already_is_not_new(
    changes: Callable[..., dict[str, Any]], make: Make, repository: Path
) -> None:
    edit(repository / "configs/tale.yaml", "a frog", "a green frog")
    make("tale")
    output = changes()
    assert lists(output, "tale") == ([], ["frog"], [])
    assert output["total"]["new"] == 0


def test_sets_and_one_partition_can_be_chosen(
    changes: Callable[..., dict[str, Any]], repository: Path
) -> None:
    edit(repository / "configs/tale.yaml", "a frog", "a green frog")
    edit(repository / "configs/map.yaml", "a map", "a new map")
    assert set(changes("tale")["sets"]) == {"tale"}
    output = changes("tale", "--partition", "king")
    assert output["total"]["new"] == 0
    assert lists(output, "tale") == ([], [], [])


def test_the_repository_is_left_as_it_was(
    changes: Callable[..., dict[str, Any]], repository: Path
) -> None:
    edit(repository / "configs/tale.yaml", "a frog", "a green frog")
    before = (
        git(repository, "status", "--porcelain", "configs"),
        git(repository, "worktree", "list"),
    )
    changes()
    assert (
        git(repository, "status", "--porcelain", "configs"),
        git(repository, "worktree", "list"),
    ) == before


def test_the_folder_may_lie_deep_below_the_root(
    changes: Callable[..., dict[str, Any]], repository: Path
) -> None:
    edit(repository / "a b/configs/tale.yaml", "a frog", "a green frog")
    edit(repository / "configs/tale.yaml", "a king", "a queen")
    output = changes("--configs", "a b/configs")
    assert lists(output, "tale") == ([], ["frog"], [])
    assert output["total"]["new"] == 1


def test_a_folder_that_was_not_there_is_all_new(command: Command, repository: Path) -> None:
    shutil.copytree(repository / "configs", repository / "others")
    code, output, _ = command("plan", "--changed-since", "HEAD", "--configs", "others", "--json")
    assert (code, output["total"]["new"], output["added"]) == (
        *(0, 7),
        ["diary", "map", "shop", "tale"],
    )


@pytest.mark.parametrize("rev", ["nosuch", "--output=x", "HEAD:configs"])
def test_a_revision_that_does_not_exist_is_named(
    command: Command, repository: Path, rev: str
) -> None:
    assert repository.is_dir()
    code, _, errors = command("plan", f"--changed-since={rev}")
    assert code == 2
    assert errors.splitlines() == [
        f"--changed-since {rev}: no such revision here; in a shallow clone, fetch it first"
    ]


def test_without_a_repository_or_git_that_is_said(command: Command, folder: Path) -> None:
    code, _, errors = command("plan", "--changed-since", "HEAD")
    assert (code, "lies in no git repository" in errors) == (2, True)
    code, _, errors = command("plan", "--changed-since", "HEAD", PATH=str(folder))
    assert (code, "git is not installed" in errors) == (2, True)


def test_a_file_that_was_broken_is_named_as_it_was_called(
    command: Command, repository: Path
) -> None:
    good = (repository / "configs/tale.yaml").read_text()
    (repository / "configs/tale.yaml").write_text("model: x\n")
    git(repository, "commit", "--quiet", "--all", "--message", "broken")
    (repository / "configs/tale.yaml").write_text(good)
    code, _, errors = command("plan", "--changed-since", "HEAD")
    assert code == 2
    assert errors.startswith("HEAD:configs/tale.yaml")
    assert "flux-pipeline-" not in errors


def test_the_table_and_the_comment_say_what_changed(command: Command, repository: Path) -> None:
    edit(repository / "configs/tale.yaml", "a frog", "a green frog")
    edit(repository / "configs/tale.yaml", "model:", "budget: {usd_per_run: 0.001}\nmodel:")
    short = "budget usd_per_run 0.001: 0 of 1 new requests fit; raise it to 0.003"
    command("plan", "tale", "--changed-since", "HEAD")
    printed = (repository / "output.json").read_text()
    assert "tale: 1 edited: frog\n" in printed
    assert f"tale: {short}\n" in printed
    command("plan", "tale", "--changed-since", "HEAD", "--markdown")
    comment = (repository / "output.json").read_text().splitlines()
    assert comment[0] == MARK
    assert f"- **tale**: {short}" in comment
    assert "- **tale**: 1 edited: frog" in comment
    assert "| tale | 2 | 2 | 1 | 1 | 0 | 0 | 0 | 0 | 0.0030 | 0:00 |" in comment


def test_a_comment_fits_into_a_comment() -> None:
    plan = Plan(rate=600.0, rev="main", commit="0" * 40)
    for number in range(3_000):
        names = [f"a-rather-long-name-{each}" for each in range(100)]
        plan.add(SetPlan(f"set_{number}", SetForecast(), [], Changes(added=names)))
    assert len(as_markdown(plan)) < MOST_CHARACTERS + 100
    assert as_markdown(plan).startswith(MARK)


def workflow() -> dict[str, Any]:
    loaded = yaml.safe_load((ROOT / WORKFLOW).read_text())
    assert isinstance(loaded, dict)
    return loaded


def test_the_workflow_runs_on_pull_requests_with_the_least_rights() -> None:
    loaded = workflow()
    assert set(loaded[True]) == {"pull_request"}  # YAML reads the word "on" as true
    assert loaded["permissions"] == {}
    rights = {name: job["permissions"] for name, job in loaded["jobs"].items()}
    assert rights == {"plan": {"contents": "read"}, "comment": {"pull-requests": "write"}}
    assert "secrets." not in (ROOT / WORKFLOW).read_text()


def test_what_may_comment_runs_nothing_of_the_pull_request() -> None:
    (step,) = workflow()["jobs"]["comment"]["steps"]
    assert set(step) == {"env", "run"}
    assert MARK in step["run"]


def test_actions_are_pinned_and_no_expression_is_put_into_a_script() -> None:
    steps = [step for job in workflow()["jobs"].values() for step in job["steps"]]
    for step in steps:
        if "uses" in step:
            assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", step["uses"])
        assert "${{" not in step.get("run", "")


def test_the_command_in_the_workflow_exists() -> None:
    runs = [step.get("run", "") for step in workflow()["jobs"]["plan"]["steps"]]
    (line,) = [line for run in runs for line in run.splitlines() if "flux-pipeline" in line]
    words = shlex.split(line.partition(">")[0])
    assert words[0] == ".venv/bin/flux-pipeline"
    context = cli.make_context("flux-pipeline", words[1:])
    name, command, rest = cli.resolve_command(context, words[1:])
    assert command is not None
    made = command.make_context(name, rest, parent=context)
    assert (made.params["changed_since"], made.params["markdown"]) == ("HEAD^1", True)


def test_the_scripts_of_the_workflow_are_bash() -> None:
    for job in workflow()["jobs"].values():
        for step in job["steps"]:
            subprocess.run(["bash", "-n"], input=step.get("run", ""), text=True, check=True)
