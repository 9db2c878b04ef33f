"""Tests of flux_pipeline.prompts.picks."""

from pathlib import Path

import pytest

from flux_pipeline.errors import ConfigError
from flux_pipeline.prompts import load_prompt_set
from flux_pipeline.prompts.picks import Pick, picks_of, read_picks

_SHA = "0f" * 32


def _write(folder: Path, data: str | bytes, name: str = "book.csv") -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def test_a_file_that_is_not_there_holds_no_picks(tmp_path: Path) -> None:
    assert read_picks(tmp_path / "picks/book.csv") == ()


def test_picks_are_read_as_the_gallery_writes_them(tmp_path: Path) -> None:
    text = f'prompt,take,output,image_sha256,note\ncastle,2,1,{_SHA},"warm, ""best"""\nowl,1,3,,\n'
    castle, owl = read_picks(_write(tmp_path, text))
    assert castle == Pick(prompt="castle", take=2, image_sha256=_SHA, note='warm, "best"', row=1)
    assert (owl.output, owl.output_index) == (3, 2)


@pytest.mark.parametrize(
    "data",
    [
        "\ufeffprompt;take;note\r\ncastle;2;ok\r\n;;\r\n",
        "sep=;\r\nprompt;take;note\r\ncastle;2.0;ok\r\n",
        "Prompt , TAKE,note,\ncastle, 2,ok,\n",
        "note,take,output,prompt\nok,2,,castle\n",
    ],
)
def test_what_spreadsheets_make_of_the_file_is_read(tmp_path: Path, data: str) -> None:
    [pick] = read_picks(_write(tmp_path, data))
    assert (pick.prompt, pick.take, pick.output, pick.note) == ("castle", 2, 1, "ok")


def test_every_wrong_row_is_told_with_its_line(tmp_path: Path) -> None:
    path = _write(
        tmp_path,
        "prompt,take,output,image_sha256,partition,note\n,1,1,,,\nowl,zero,0,12E+60,2026-01-01,\n"
        "fox,1,1,,,\nelk,1\nfox,,,,,again\n",
    )
    with pytest.raises(ConfigError) as caught:
        read_picks(path)
    told = [
        (each.line, each.message.partition(": ")[2] or each.message)
        for each in caught.value.problems
    ]
    assert [line for line, _ in told] == [2, 3, 3, 3, 3, 5, 6]
    assert all(each.path == str(path) for each in caught.value.problems)
    assert told[-1][1] == "stands in row 3 already: remove one"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("take,note\n1,\n", "has no column prompt"),
        ("prompt,image_sha265\nowl,\n", "did you mean image_sha256"),
        ("prompt,reviewer\nowl,x\n", "unknown column"),
        ("", "is empty"),
        ("prompt\n红".encode("gbk"), "UTF-8"),
        ("prompt\nowl".encode("utf-16"), "is UTF-16"),
    ],
)
def test_another_table_is_no_file_of_picks(tmp_path: Path, data: str | bytes, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        read_picks(_write(tmp_path, data))


def test_picks_of_a_set_by_day_may_name_the_day(tmp_path: Path) -> None:
    (tmp_path / "news.yaml").write_text(
        "model: lucataco/flux-schnell-lora\nprompts: {cover: '{date}'}\nchoose: news.csv\n"
        "partitions: {by: day, start: 2026-01-01}\n"
    )
    _write(tmp_path, "prompt,partition\ncover,2026-01-05\ncover,\n", "news.csv")
    loaded = load_prompt_set(tmp_path / "news.yaml")
    assert [pick.partition for pick in picks_of(loaded)] == ["2026-01-05", ""]
    _write(tmp_path, "prompt,partition\ncover,5.1.2026\n", "news.csv")
    with pytest.raises(ConfigError, match="YYYY-MM-DD; a spreadsheet may have changed it"):
        picks_of(loaded)
