"""`flux-pipeline spend`: sums of the table as it is, on a folder and in a bucket."""

import json
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flux_pipeline.cli import cli
from flux_pipeline.lineage.parts import write_part
from flux_pipeline.lineage.record import ImageRecord, ImageStatus
from flux_pipeline.lineage.table import compact
from flux_pipeline.store.base import Store
from flux_pipeline.store.open import open_store
from tests.lineage.samples import NOON, a_failure, a_record, digest
from tests.servers.s3 import S3Server

DAY = date(2026, 11, 1)


def write(store: Store, *records: ImageRecord, run_id: str) -> None:
    write_part(store, records, asset="winter/images", partition="a", run_id=run_id, day=DAY)


def fill(store: Store) -> None:
    """Some rows in the compacted table, and some that came since."""
    shared: dict[str, Any] = {"prediction_id": "p", "request_sha256": digest("p"), "num_outputs": 4}
    four = [a_record(f"p{index}", output_index=index, **shared) for index in range(4)]
    write(store, *four, run_id="run-1")
    compact(store)
    later = NOON + timedelta(days=1)
    refused = a_failure("r", status=ImageStatus.REFUSED, requested_at=later, cost_usd=0.0)
    write(store, a_record("q", prompt_set="summer", requested_at=later), refused, run_id="run-2")


@pytest.fixture(params=["folder", "bucket"], scope="module")
def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a store with some rows."""
    if request.param == "folder":
        address = f"file:{tmp_path_factory.mktemp('store')}"
        fill(open_store(address))
        yield address
        return
    server: S3Server = request.getfixturevalue("s3_server")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment().items():
            patch.setenv(name, value)
        address = f"s3://{server.new_bucket()}/pictures"
        fill(open_store(address))
        yield address


def spend(store: str, *arguments: str) -> Result:
    environ = {"FLUX_STORE": store, "COLUMNS": "100"}
    return CliRunner().invoke(cli, ["spend", *arguments], env=environ)


def spend_json(store: str, *arguments: str) -> Any:
    result = spend(store, "--json", *arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_sums_hold_what_came_since_the_last_compaction(filled: str) -> None:
    output = spend_json(filled)
    assert output["by"] == "day"
    assert [(row["day"], row["predictions"], row["images"]) for row in output["rows"]] == [
        ("2026-11-01", 1, 4),
        ("2026-11-02", 1, 1),
    ]
    assert output["total"] == {
        "predictions": 2,
        "images": 5,
        "refused": 1,
        "failed": 0,
        "usd": 0.015,
        "measured_usd": 0.015,
        "seconds": 5.0,
    }


def test_rows_stand_for_sets_or_models(tmp_path: Path) -> None:
    fill(open_store(f"file:{tmp_path}"))
    by_set = spend_json(f"file:{tmp_path}", "--by", "set")["rows"]
    assert [(row["prompt_set"], row["images"]) for row in by_set] == [("summer", 1), ("winter", 4)]
    (row,) = spend_json(f"file:{tmp_path}", "--by", "model")["rows"]
    assert (row["model"], row["predictions"]) == ("lucataco/flux-schnell-lora", 2)


def test_days_and_sets_are_chosen(tmp_path: Path) -> None:
    fill(open_store(f"file:{tmp_path}"))
    store = f"file:{tmp_path}"
    assert spend_json(store, "--since", "2026-11-02")["total"]["images"] == 1
    assert spend_json(store, "--until", "2026-11-01")["total"]["images"] == 4
    assert spend_json(store, "winter")["total"]["refused"] == 1
    unknown = spend(store, "autumn")
    assert unknown.exit_code == 2
    assert "it has summer, winter" in unknown.output
    assert spend(store, "--since", "yesterday").exit_code == 2


def test_the_table_shows_the_newest_days_and_a_total_of_all(tmp_path: Path) -> None:
    store = open_store(f"file:{tmp_path}")
    days = (a_record(day, requested_at=NOON + timedelta(days=day)) for day in range(40))
    write(store, *days, run_id="run-1")
    result = spend(f"file:{tmp_path}")
    lines = result.stdout.splitlines()
    assert lines[0].split() == [
        "day",
        "predictions",
        "images",
        "refused",
        "failed",
        "USD",
        "measured",
        "seconds",
    ]
    assert lines[1].split()[0] == "2026-11-10"
    assert lines[-2].split() == ["total", "40", "40", "0", "0", "0.1200", "0.1200", "100.0"]
    assert lines[-1].startswith("and 9 days before")


def test_of_nothing_there_is_nothing(tmp_path: Path) -> None:
    assert spend_json(f"file:{tmp_path}")["rows"] == []
    assert spend(f"file:{tmp_path}").exit_code == 0


def test_what_the_emulator_made_is_no_money(tmp_path: Path) -> None:
    store = open_store(f"file:{tmp_path}")
    write(store, a_record(1, provider="emulator"), run_id="run-1")

    assert spend_json(f"file:{tmp_path}")["emulated"] is True
    assert "USD (emulated)" in spend(f"file:{tmp_path}").stdout
