"""`flux-pipeline reproduce` in processes of its own, one of which dies."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from tests.servers.dagster_home import write_dagster_home
from tests.servers.processes import Death, make_images_of, run_command

TOKEN = "hf_0123456789abcdefghijABCDEFGHIJ"
MODEL = {"model": "lucataco/flux-schnell-lora"}
SETS = {
    "map": {"prompts": {name: f"a {name}" for name in ("map", "hill", "oak", "elm", "ash")}},
    "lora": {
        "defaults": {"hf_lora": f"https://example.com/x.safetensors?token={TOKEN}"},
        "prompts": {"fox": "a fox"},
    },
}


@pytest.fixture(scope="module")
def server() -> Iterator[EmulatorServer]:
    with EmulatorServer(EmulatorOptions(time_scale=0, render="cheap")) as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, server: EmulatorServer) -> Path:
    """One run of several prompts; each test takes another one of them."""
    folder = tmp_path_factory.mktemp("reproduce")
    (folder / "configs").mkdir()
    write_dagster_home(folder)
    for name, words in SETS.items():
        (folder / "configs" / f"{name}.yaml").write_text(yaml.safe_dump(MODEL | words))
    make_images_of(list(SETS), folder=folder, environ=environment(server))
    return folder


def environment(server: EmulatorServer) -> dict[str, str]:
    return {"FLUX_PROVIDER": f"{server.origin}/replicate", "FLUX_API_KEY": "test-key"}


def call(
    folder: Path, server: EmulatorServer, *arguments: str, death: Death | None = None, **more: str
) -> tuple[int, dict[str, Any], str]:
    """Exit code, what was printed as JSON, and standard error."""
    environ = environment(server) | more
    (folder / "errors.txt").unlink(missing_ok=True)
    code, output = run_command(arguments, folder=folder, environ=environ, death=death)
    return code, output, (folder / "errors.txt").read_text()


def image(folder: Path, name: str) -> str:
    paths = (folder / "data" / "store" / "images").glob(f"*/{name}-*-0.webp")
    (path,) = (path for path in paths if "reproduction" not in path.name)
    return str(path)


def test_it_pays_once_more_and_says_that_it_is_identical(
    folder: Path, server: EmulatorServer
) -> None:
    before = server.usage().creates_accepted
    code, output, _ = call(folder, server, "reproduce", image(folder, "map"), "--json")

    assert (code, output["verdict"], output["usd"]) == (0, "identical", 0.003)
    assert server.usage().creates_accepted == before + 1
    code, traced, _ = call(folder, server, "trace", output["prediction"], "--json")
    assert (code, traced["record"]["request_sha256"]) == (0, output["request"])
    assert output["original"] in traced["notes"][0]
    code, verified, _ = call(folder, server, "verify", "--deep", "--json")
    assert (code, verified["ok"]) == (0, True)


def test_a_dry_run_says_the_cost_and_sends_nothing(folder: Path, server: EmulatorServer) -> None:
    before = server.usage().creates_received
    file = image(folder, "hill")
    code, output, _ = call(folder, server, "reproduce", file, "--dry-run", "--json")
    assert (code, output["usd"], output["take"]) == (0, 0.003, 1)
    assert output["input"]["prompt"] == "a hill"

    code, _, _ = call(folder, server, "reproduce", file, "--dry-run")
    assert code == 0
    assert "0.0030 USD (emulated)" in (folder / "output.json").read_text()
    assert server.usage().creates_received == before


@pytest.mark.parametrize(
    ("name", "death"),
    [
        ("oak", Death("Send", after=True)),
        ("elm", Death("WriteAccepted", after=True)),
        ("ash", Death("StoreOutput", after=True)),
    ],
)
def test_one_that_died_is_resumed_and_paid_once(
    folder: Path, server: EmulatorServer, name: str, death: Death
) -> None:
    before = server.usage().creates_accepted
    file = image(folder, name)
    died, _, _ = call(folder, server, "reproduce", file, death=death)
    assert died < 0

    code, output, _ = call(folder, server, "reproduce", file, "--json", FLUX_SETTLE_SECONDS="0.2")

    assert (code, output["verdict"], output["take"]) == (0, "identical", 1)
    assert server.usage().creates_accepted == before + 1
    code, _, _ = call(folder, server, "verify", "--json")
    assert code == 0


def test_what_is_not_known_or_not_configured_sends_nothing(
    folder: Path, server: EmulatorServer
) -> None:
    before = server.usage().creates_received
    code, _, errors = call(folder, server, "reproduce", "nosuchid")
    assert (code, "not known: nosuchid" in errors) == (1, True)
    code, _, errors = call(folder, server, "reproduce", image(folder, "hill"), FLUX_API_KEY="")
    assert (code, "FLUX_API_KEY" in errors) == (2, True)
    assert server.usage().creates_received == before


def test_a_secret_that_was_not_recorded_is_asked_for(
    folder: Path, server: EmulatorServer, tmp_path: Path
) -> None:
    file = image(folder, "fox")
    code, output, _ = call(folder, server, "reproduce", file, "--json")
    assert (code, output["verdict"], TOKEN in json.dumps(output)) == (0, "identical", False)

    before = server.usage().creates_received
    code, _, errors = call(folder, server, "reproduce", file, FLUX_CONFIGS=str(tmp_path))

    assert (code, "has no prompt set lora" in errors) == (2, True)
    assert TOKEN not in errors
    assert server.usage().creates_received == before
