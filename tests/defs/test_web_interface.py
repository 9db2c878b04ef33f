"""The project's own code location in the web interface: found, reloaded, and only then believed."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from flux_pipeline.defs.web_interface import ReloadFailedError, reload_location
from tests.defs.asset_runner import HEAD
from tests.defs.web_interface import RELOADED, UNCHANGED, web_interface
from tests.servers.ports import answers, free_port

SETS = Path("/studio/configs")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"__typename": "RepositoryLocationNotFound", "message": "no such one"}, "no such one"),
        ({"locationOrLoadError": {"message": "broken\nstack"}}, "broken"),
        ("<html>", "what answered there is not Dagster's web interface"),
        (UNCHANGED, "it answered, but the code location is the one that was loaded before"),
    ],
)
def test_a_reload_that_was_not_done_says_why(answer: Any, reason: str) -> None:
    with (
        web_interface(answer, place=SETS) as (ui_url, _),
        pytest.raises(ReloadFailedError, match=reason) as raised,
    ):
        reload_location(ui_url, SETS)
    assert not raised.value.elsewhere


def test_the_web_interface_of_this_machine_is_called_without_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(variable, "http://proxy.invalid:1")
    with web_interface(RELOADED, place=SETS) as (ui_url, got):
        assert reload_location(ui_url, SETS) == "studio"
    assert len(got) == 1


@pytest.fixture
def ui_url(tmp_path: Path) -> Iterator[str]:
    """Dagster's own web interface on the prompt sets in ``mine/configs``."""
    for name in ("mine", "theirs"):
        (tmp_path / name / "configs").mkdir(parents=True)
        (tmp_path / name / "configs/winter.yaml").write_text(HEAD + "prompts: {a: a}\n")
    (tmp_path / "home").mkdir()
    (tmp_path / "home/dagster.yaml").write_text("telemetry: {enabled: false}\n")
    port = free_port()
    arguments = ("-m", "flux_pipeline.definitions", "-h", "127.0.0.1", "-p", str(port))
    process = subprocess.Popen(
        [sys.executable, "-m", "dagster_webserver", *arguments],
        cwd=tmp_path / "mine",
        env={"DAGSTER_HOME": str(tmp_path / "home"), "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert answers(process, port, 300)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def test_dagsters_web_interface_reloads_its_own_project_and_no_other(
    tmp_path: Path, ui_url: str
) -> None:
    pytest.importorskip("dagster_webserver", reason="needs the extra ui: uv sync --extra ui")
    loaded = updated_at(ui_url)
    with pytest.raises(ReloadFailedError, match=f"shows the prompt sets of {tmp_path}/mine"):
        reload_location(ui_url, tmp_path / "theirs/configs")
    assert updated_at(ui_url) == loaded
    assert reload_location(ui_url, tmp_path / "mine/configs") == "flux_pipeline.definitions"
    assert updated_at(ui_url) > loaded


def updated_at(ui_url: str) -> float:
    query = "{ workspaceOrError { ... on Workspace { locationEntries { updatedTimestamp } } } }"
    body = json.dumps({"query": query}).encode()
    while True:  # a new location loads in a thread of the server's
        with urlopen(
            Request(f"{ui_url}/graphql", body, {"content-type": "application/json"}), timeout=300
        ) as reply:
            entries = json.load(reply)["data"]["workspaceOrError"]["locationEntries"]
        if entries:
            return float(entries[0]["updatedTimestamp"])
        time.sleep(0.05)  # another process: there is no clock to pass in
