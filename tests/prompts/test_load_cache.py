"""What is remembered of an unchanged prompt set, and everything that makes it be read again."""

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path

import pytest

from flux_pipeline.errors import ConfigError
from flux_pipeline.prompts import PromptSet, load_prompt_sets
from flux_pipeline.prompts import load as loading
from flux_pipeline.prompts.load_cache import OFF, LoadCache

HEAD = "model: lucataco/flux-schnell-lora\n"
CONFIGS = Path(__file__).parents[2] / "configs"
TEXT = """
description: Boats
owners: ["team:studio"]
tags: {campaign: sea}
defaults: {num_outputs: 2}
prompts:
  boat: "a boat\\u200b of wood"
  ship: {prompt: "a {colour} ship", matrix: {colour: [red, blue]}, takes: 2}
budget: {usd_per_run: 1.5}
"""
TABLE = "prompts: {row: {prompt: 'a {thing}', table: things.csv, key: name}}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/boats.yaml").write_text(HEAD + TEXT)
    return tmp_path / "configs"


@pytest.fixture
def cache(tmp_path: Path) -> LoadCache:
    return LoadCache(tmp_path / "deep/cache", writes=True)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are parsed, as they are."""
    names: list[str] = []
    parse = loading.parse_yaml

    def noting(data: bytes, path: str, *more: object) -> object:
        names.append(Path(path).name)
        return parse(data, path, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(loading, "parse_yaml", noting)
    return names


def described(prompt_set: PromptSet) -> dict[str, object]:
    plain = {each.name: getattr(prompt_set, each.name) for each in fields(PromptSet)}
    del plain["expansion"]
    lines = [prompt_set.expansion.line(key) for key in ("model", "prompts", "description", "tags")]
    day = ["2026-11-01"] if prompt_set.partitions.by == "day" else None
    requests = [] if prompt_set.sources else list(prompt_set.requests(day))
    return plain | {"lines": lines, "tables": prompt_set.expansion.tables, "requests": requests}


def test_a_remembered_set_is_the_same_and_its_file_is_not_parsed(
    folder: Path, cache: LoadCache, parsed: list[str]
) -> None:
    (loaded,) = load_prompt_sets(folder, cache)
    parsed.clear()
    (remembered,) = load_prompt_sets(folder, cache)
    assert remembered.partition_keys() == ("boat", "ship-red", "ship-blue")
    assert [each.key for each in remembered.warnings] == ["prompts.boat.prompt"]
    assert not parsed
    assert described(remembered) == described(loaded)
    assert parsed == ["boats.yaml"]
    assert len(list(remembered.requests())) == 5
    assert parsed == ["boats.yaml"]


def test_the_shipped_sets_are_the_same_when_remembered(cache: LoadCache) -> None:
    anew = load_prompt_sets(CONFIGS)
    load_prompt_sets(CONFIGS, cache)
    for one, other in zip(load_prompt_sets(CONFIGS, cache), anew, strict=True):
        before, after = described(other), described(one)
        for linked in ("sources", "follows"):
            before.pop(linked), after.pop(linked)
        assert after == before


def test_only_the_file_that_changed_is_read_again(
    folder: Path, cache: LoadCache, parsed: list[str]
) -> None:
    (folder / "cars.yaml").write_text(f"{HEAD}prompts: {{car: a car}}")
    load_prompt_sets(folder, cache)
    parsed.clear()
    state = (folder / "cars.yaml").stat()
    (folder / "cars.yaml").write_text(f"{HEAD}prompts: {{cat: a car}}")
    os.utime(folder / "cars.yaml", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert load_prompt_sets(folder, cache)[1].prompt_names == ("cat",)
    assert parsed == ["cars.yaml"]


def test_a_table_counts_by_its_bytes_and_not_by_its_time(
    folder: Path, cache: LoadCache, parsed: list[str]
) -> None:
    table = folder / "things.csv"
    (folder / "boats.yaml").write_text(HEAD + TABLE)
    table.write_text("name,thing\none,boat\ntwo,ship\n")
    (first,) = load_prompt_sets(folder, cache)
    parsed.clear()
    (same,) = load_prompt_sets(folder, cache)
    assert (same.prompt_names, same.config_sha256) == (first.prompt_names, first.config_sha256)
    assert not parsed

    state = table.stat()
    table.write_text("name,thing\none,boat\nsix,ship\n")
    os.utime(table, ns=(state.st_atime_ns, state.st_mtime_ns))
    (changed,) = load_prompt_sets(folder, cache)
    assert changed.prompt_names == ("row-one", "row-six")
    with pytest.raises(ConfigError, match="changed since it was loaded"):
        list(same.requests())
    table.unlink()
    with pytest.raises(ConfigError, match="no such file"):
        load_prompt_sets(folder, cache)


def test_a_contract_of_the_project_counts(folder: Path, cache: LoadCache) -> None:
    contract = folder / "models/acme/painter.yaml"
    contract.parent.mkdir(parents=True)
    shipped = CONFIGS.parent / "flux_pipeline/models/contracts/black-forest-labs/flux-dev.yaml"
    contract.write_text(shipped.read_text().replace("black-forest-labs/flux-dev", "acme/painter"))
    (folder / "boats.yaml").write_text("model: acme/painter\nprompts: {boat: a boat}\n")
    load_prompt_sets(folder, cache)
    contract.unlink()
    with pytest.raises(ConfigError, match="no model of that name"):
        load_prompt_sets(folder, cache)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _text: "",
        lambda text: text[: len(text) // 2],
        lambda text: json.dumps([text]),
        lambda text: text.replace('"names":["boat"', '"names":[7'),
        lambda text: json.dumps(json.loads(text) | {"key": "0" * 64, "names": ["other"]}),
        lambda text: json.dumps(json.loads(text) | {"more": 1}),
    ],
    ids=["empty", "cut", "foreign", "another type", "another key", "another form"],
)
def test_a_record_that_is_not_ours_is_ignored_and_written_anew(
    folder: Path, cache: LoadCache, spoil: Callable[[str], str]
) -> None:
    load_prompt_sets(folder, cache)
    assert cache.folder is not None
    (record,) = cache.folder.iterdir()
    right = record.read_text()
    record.write_text(spoil(right))
    assert load_prompt_sets(folder, cache)[0].prompt_names == ("boat", "ship-red", "ship-blue")
    assert record.read_text() == right


def test_writers_at_once_leave_one_whole_record(folder: Path, cache: LoadCache) -> None:
    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(lambda _: load_prompt_sets(folder, cache)[0], range(32)))
    assert {each.config_sha256 for each in loaded} == {loaded[0].config_sha256}
    assert cache.folder is not None
    (record,) = cache.folder.iterdir()
    assert json.loads(record.read_text())["model"] == "lucataco/flux-schnell-lora"


def test_nothing_is_written_by_a_reader_or_where_it_is_off(folder: Path, tmp_path: Path) -> None:
    for cache in (LoadCache(tmp_path / "cache"), OFF, LoadCache(None, writes=True)):
        assert load_prompt_sets(folder, cache)
    assert not (tmp_path / "cache").exists()


def test_a_folder_that_cannot_be_written_changes_nothing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert load_prompt_sets(folder, LoadCache(tmp_path / "cache", writes=True))


def test_a_token_of_a_prompt_set_is_in_no_record(folder: Path, cache: LoadCache) -> None:
    token = "hf_" + "aB3dE6gH" * 4
    address = f"https://example.com/c.safetensors?token={token}"
    (folder / "lora.yaml").write_text(
        f"{HEAD}defaults: {{hf_lora: {address}}}\nprompts: {{a: b}}\n"
    )
    (folder / "told.yaml").write_text(f"{HEAD}description: mine is {token}\nprompts: {{a: b}}\n")
    first = load_prompt_sets(folder, cache)
    assert cache.folder is not None
    written = [each.read_text() for each in cache.folder.iterdir()]
    assert len(written) == 2, "boats and lora, and not the one that tells its key"
    assert token not in "".join(written)
    again = load_prompt_sets(folder, cache)
    assert [list(each.requests()) for each in again] == [list(each.requests()) for each in first]


def test_mistakes_are_told_every_time(folder: Path, cache: LoadCache) -> None:
    (folder / "boats.yaml").write_text(f"{HEAD}prompts: {{BOAT: a boat}}")
    for _ in range(2):
        with pytest.raises(ConfigError, match="perhaps boat"):
            load_prompt_sets(folder, cache)
    assert cache.folder is not None
    assert not cache.folder.exists()


def test_sets_that_depend_on_more_are_read_every_time(
    folder: Path, cache: LoadCache, parsed: list[str]
) -> None:
    (folder / "night.yaml").write_text(
        f"{HEAD}prompts: {{night: {{each: boats, prompt: at night}}}}\n"
    )
    (folder / "picks.yaml").write_text(f"{HEAD}choose: first\nprompts: {{car: a car}}\n")
    load_prompt_sets(folder, cache)
    parsed.clear()
    load_prompt_sets(folder, cache)
    assert {"night.yaml", "picks.yaml"} <= set(parsed)
