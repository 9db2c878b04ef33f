from pathlib import Path

import pandas as pd
import pytest

from flux_pipeline.prompts import build_prompt_set, spreadsheets
from flux_pipeline.prompts.tables import open_table


def write(folder: Path, frame: pd.DataFrame) -> Path:
    path = folder / "animals.xlsx"
    frame.to_excel(path, index=False)
    return path


def test_the_prompts_of_a_spreadsheet_are_those_of_its_first_sheet(tmp_path: Path) -> None:
    write(tmp_path, pd.DataFrame({"name": ["猫", "NA"], "n": [2, 1], "lora": [0.8, None]}))
    table = open_table(tmp_path, "animals.xlsx")

    rows = list(table.rows(["name", "n", "lora"], lambda *_: None))

    assert table.columns == ("name", "n", "lora")
    assert [(row.number, row.line, dict(row.values)) for row in rows] == [
        (1, 2, {"name": "猫", "n": "2", "lora": "0.8"}),
        (2, 3, {"name": "NA", "n": "1", "lora": ""}),
    ]


def test_dates_and_switches_are_as_an_author_would_write_them(tmp_path: Path) -> None:
    path = write(tmp_path, pd.DataFrame({"day": [pd.Timestamp("2026-11-01")], "wide": [True]}))

    assert spreadsheets.read_sheet(path) == [["day", "wide"], ["2026-11-01", "true"]]


def test_a_prompt_set_takes_its_rows_from_a_spreadsheet(tmp_path: Path) -> None:
    write(tmp_path, pd.DataFrame({"name": ["cat", "dog"]}))
    document = {
        "model": "lucataco/flux-schnell-lora",
        "prompts": {"pet": {"table": "animals.xlsx", "prompt": "a {name}"}},
    }
    found = build_prompt_set("pets", document, folder=tmp_path)

    assert [each.input["prompt"] for each in found.requests()] == ["a cat", "a dog"]


def test_without_the_extra_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, pd.DataFrame({"name": ["cat"]}))
    monkeypatch.setattr(spreadsheets, "find_spec", lambda _name: None)

    with pytest.raises(ValueError, match=r"pip install 'flux-pipeline\[excel\]'"):
        open_table(tmp_path, "animals.xlsx")
