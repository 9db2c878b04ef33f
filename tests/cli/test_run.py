import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from flux_pipeline.cli.progress import Watch
from flux_pipeline.cli.run import count_images, print_summary
from flux_pipeline.defs.launch import open_instance
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from flux_pipeline.emulator.usage import read_usage
from flux_pipeline.images import read_label
from flux_pipeline.prompts import load as loading
from flux_pipeline.prompts import load_prompt_set
from tests.cli.conftest import Command

COUNTS = {
    *("requests", "asked", "stored", "unchanged", "refused", "failed", "unsent", "held"),
    *("created", "usd"),
}
SEED_EXAMPLE = {
    "prompt": "a beautiful castle frstingln illustration",
    "hf_lora": "alvdansen/frosting_lane_flux",
    "lora_scale": 0.8,
    "num_outputs": 1,
    "aspect_ratio": "1:1",
    "output_format": "webp",
    "output_quality": 80,
    "prompt_strength": 0.8,
    "num_inference_steps": 4,
}

MOST_EVENTS = 45
"""Dagster's events of a run of two sets of which nothing is sent: each is written to its files."""


def test_a_run_prints_one_json_object_with_counts_and_a_second_one_creates_nothing(
    command: Command, server: EmulatorServer, folder: Path
) -> None:
    code, output, _ = command("run", "--json")

    assert code == 0
    assert set(output) == {"sets", "total", "emulated"}
    assert output["emulated"]  # the provider is on this machine
    assert set(output["sets"]) == {"map", "tale"}
    assert set(output["total"]) == COUNTS
    assert (output["total"]["asked"], output["total"]["created"]) == (3, 3)
    assert output["total"]["usd"] == pytest.approx(0.009)
    assert server.usage().creates_accepted == 3

    code, output, _ = command("run", "--json")

    assert (code, output["total"]["unchanged"], output["total"]["created"]) == (0, 3, 0)
    assert server.usage().creates_received == 3
    with open_instance(folder) as instance:
        runs = list(instance.get_runs())
        events = len(instance.all_logs(runs[0].run_id))
    assert [run.job_name for run in runs] == [
        "confirm_unchanged",  # which both sets share, because nothing of them is sent
        "refresh_shared_assets",
        "make_tale",
        "make_map",
    ]
    assert runs[0].tags["flux/prompt_sets"] == "map, tale"
    assert events <= MOST_EVENTS


def test_a_run_opens_its_store_once_and_looks_seldom_for_garbage_to_its_end(folder: Path) -> None:
    code = """
import gc
from flux_pipeline.cli import cli
from flux_pipeline.defs import launch
from flux_pipeline.store.local import FolderStore

opened, thresholds, before = [], [], gc.get_threshold()
open_folder, launch_job = FolderStore.__init__, launch.launch_job

def open_and_note(store, root, *others):
    opened.append(root)
    open_folder(store, root, *others)

def launch_and_note(*given, **options):
    thresholds.append(gc.get_threshold()[0])
    return launch_job(*given, **options)

FolderStore.__init__, launch.launch_job = open_and_note, launch_and_note
try:
    cli.main(["run"], "flux-pipeline")
finally:
    print()
    print(len(opened), len(thresholds), min(thresholds), gc.get_threshold() == before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "FLUX_PROVIDER": "emulator"},
    )
    stores, runs, threshold, is_restored = done.stdout.splitlines()[-1].split()
    assert stores == "1"
    assert runs == "3"  # of two sets, and of what they share
    assert int(threshold) > 10_000  # new objects; Python's own is 700
    assert is_restored == "True"


def test_the_embedded_emulator_keeps_its_own_ledger_over_runs(
    command: Command, folder: Path
) -> None:
    first, _, _ = command("run", "tale", "--json", FLUX_PROVIDER="emulator")
    second, output, _ = command("run", "tale", "--json", FLUX_PROVIDER="emulator")

    assert (first, second, output["total"]["unchanged"]) == (0, 0, 2)
    assert read_usage(folder / "data" / "emulator").creates_received == 2
    for path in (folder / "data" / "store" / "images").rglob("*.jpg"):
        with Image.open(path) as image:
            image.load()
            assert image.size == (640, 1536)
        label = read_label(path.read_bytes())
        assert label is not None
        assert (label.provider, label.is_placeholder) == ("emulator", True)
    command("trace", "--set", "tale", "--json")
    rows = json.loads((folder / "output.json").read_text())
    assert {row["provider"] for row in rows} == {"emulator"}


def test_sets_and_one_partition_can_be_chosen(command: Command) -> None:
    code, output, _ = command("run", "tale", "--partition", "frog", "--json")

    assert code == 0
    assert set(output["sets"]) == {"tale"}
    assert output["total"]["asked"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "nosuch"), "no prompt set nosuch; it has map, tale"),
        (("run", "tale", "--partition", "nosuch"), "tale has no partition nosuch"),
        (
            ("run", "tale", "--partition", "king", "--partition", "nosuch"),
            "tale has no partition nosuch",
        ),
        (("run", "tale", "--from", "2026-11-01"), "tale is not made by day"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(
    command: Command, arguments: tuple[str, ...], words: str
) -> None:
    code, _, errors = command(*arguments)

    assert code == 2
    assert words in errors


def test_a_broken_file_stops_everything_before_anything_is_sent(
    command: Command, folder: Path, server: EmulatorServer
) -> None:
    (folder / "configs" / "bad.yaml").write_text(
        "model: lucataco/flux-schnell-lora\nprompts:\n  a: {prompt: x, num_outputs: 5}\n"
    )

    code, output, errors = command("run", "--json")

    assert (code, output) == (2, {})
    assert errors.splitlines() == [
        "configs/bad.yaml:3: prompts.a.num_outputs: 5 is not allowed (1 to 4)"
    ]
    assert server.usage().creates_received == 0


def test_wrong_variables_are_named_all_at_once(command: Command) -> None:
    code, _, errors = command("run", FLUX_RATE="fast", FLUX_STORE="ftp://x", FLUX_UNKNOWN="maybe")

    assert code == 2
    assert [line.split(": ")[1] for line in sorted(errors.splitlines())] == [
        "FLUX_RATE",
        "FLUX_STORE",
        "FLUX_UNKNOWN",
    ]


def test_a_missing_key_is_said_before_anything_is_sent(command: Command) -> None:
    code, _, errors = command("run", FLUX_API_KEY="")

    assert code == 2
    assert "FLUX_API_KEY" in errors


def test_what_a_budget_stops_is_not_sent_and_has_not_failed(command: Command, folder: Path) -> None:
    (folder / "configs" / "poor.yaml").write_text(
        "model: lucataco/flux-schnell-lora\nbudget: {usd_per_run: 0.001}\nprompts: {a: x}\n"
    )

    code, output, errors = command("run", "poor", "--json")

    total = output["total"]
    assert (code, total["unsent"], total["failed"], total["created"]) == (1, 1, 0, 0)
    assert "budget" in errors


def test_a_limit_sends_so_many_requests_and_the_next_run_goes_on(
    command: Command, server: EmulatorServer
) -> None:
    code, output, errors = command("run", "--limit", "2", "--json")

    total = output["total"]
    assert (code, total["stored"], total["unsent"], total["failed"]) == (0, 2, 1, 0)
    assert "--limit 2 is reached: 1 image left for the next runs" in errors
    assert "failed" not in errors
    assert server.usage().creates_received == 2

    code, output, _ = command("run", "--limit", "2", "--json")

    total = output["total"]
    assert (code, total["stored"], total["unchanged"]) == (0, 1, 2)
    assert server.usage().creates_received == 3


def test_a_run_that_is_paid_for_asks_once_on_a_terminal_and_sends_nothing_without_a_yes(
    folder: Path,
) -> None:
    controller, terminal = pty.openpty()
    environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    given = {"FLUX_PROVIDER": "replicate", "FLUX_API_KEY": "r8_" + "0" * 37, "COLUMNS": "200"}
    with subprocess.Popen(
        [sys.executable, "-m", "flux_pipeline.cli", "run", "tale", "--limit", "1"],
        cwd=folder,
        env=environ | given,
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=terminal,
    ) as process:
        os.close(terminal)
        said = b""
        while b"[y/N]" not in said:
            said += os.read(controller, 1000)
        os.write(controller, b"n\n")
        assert process.wait() == 1
    os.close(controller)
    asked = "Send at most 1 of 2 requests for 2 images to replicate, up to 0.0060 USD by estimate?"
    assert asked in said.decode()
    assert not (folder / "data/store").exists()


def test_the_api_documents_example_is_sent_to_the_letter(command: Command) -> None:
    shipped = Path(__file__).parents[2] / "configs"
    # This reply has neither id nor URL to resume by; the tests of the client have all shapes.
    options = EmulatorOptions(reply_shape="data_b64", time_scale=0)
    with EmulatorServer(options) as server:
        provider = f"{server.origin}/replicate"
        code, output, _ = command(
            "run", "castle", "--configs", str(shipped), "--json", FLUX_PROVIDER=provider
        )
        (prediction,) = server.usage().predictions

    assert (code, output["total"]["stored"]) == (0, 1)
    assert prediction.input == SEED_EXAMPLE
    version = "2a6b576af31790b470f0a8442e1e9791213fa13799cbb65a9fc1436e96389574"
    assert prediction.version.endswith(version)


def test_warnings_are_said_once_also_of_the_last_rows_of_a_large_table(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loading, "MAX_TABLE_BYTES", 0)
    (folder / "configs/t.csv").write_text("name,n\n" + "cat,1\n" * 1_100 + "dog,9\n")
    (folder / "configs/large.yaml").write_text(
        "model: lucataco/flux-schnell-lora\n"
        "partitions: {by: shard, count: 1}\n"
        "prompts: {p: {table: t.csv, bad_rows: skip, prompt: 'a {name}', num_outputs: '{n}'}}\n"
    )
    large = load_prompt_set(folder / "configs/large.yaml")

    assert count_images(large, None) == 1_100
    said = capsys.readouterr().err.splitlines()
    assert len([line for line in said if "skipped 1 row" in line]) == 1
    assert {line.partition(": ")[0] for line in said} == {"warning"}


def test_warnings_of_a_small_set_are_said_too(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "configs/tale.yaml").write_text(
        "model: lucataco/flux-schnell-lora\n"
        "prompts: {king: {prompt: a king, seed: 1}, queen: {prompt: a king, seed: 1}}\n"
    )
    assert count_images(load_prompt_set(folder / "configs/tale.yaml"), None) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: ")


def test_what_a_file_of_variables_adds_to_them_changes_nothing(
    command: Command, folder: Path, server: EmulatorServer
) -> None:
    """Dagster reads key and ledger from the variables themselves, when the run starts."""
    code, output, _ = command(
        "run",
        "map",
        "--json",
        FLUX_PROVIDER=f"\ufeff{server.origin}/replicate\r",
        FLUX_API_KEY='"test-key"\r',
        FLUX_LEDGER="'sqlite:///./data/another.db'\r",
        FLUX_STORE=' "file:./data/pictures"\u00a0',
    )
    assert (code, output["total"]["stored"]) == (0, 1)
    assert (folder / "data/another.db").is_file()
    assert (folder / "data/pictures/images").is_dir()
    assert server.usage().creates_accepted == 1


def test_the_footer_names_models_whose_price_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(Watch({"tale": 1}, None), {"pictures": "file:///x"}, ["owner/name"])
    said = capsys.readouterr().out
    assert "price unknown: no sum of USD here includes what owner/name costs" in said
