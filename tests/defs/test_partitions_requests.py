"""Requests by partition: each once, in its own partition, in few passes over the tables."""

from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from flux_pipeline.defs import partitions as requests
from flux_pipeline.defs.partitions import Content, read_contents, requests_by_partition
from flux_pipeline.errors import ConfigError
from flux_pipeline.prompts import PromptSet, build_prompt_set

MODEL = "lucataco/flux-schnell-lora"


def a_set(folder: Path | None = None, **document: object) -> PromptSet:
    return build_prompt_set("winter", {"model": MODEL, **document}, folder=folder)


def a_table(folder: Path, rows: int, shards: int) -> PromptSet:
    lines = "".join(f"animal-{row}\n" for row in range(rows))
    (folder / "animals.csv").write_text(f"animal\n{lines}")
    prompts = {"a": {"prompt": "a {animal}", "table": "animals.csv", "key": "animal"}}
    return a_set(folder, prompts=prompts, partitions={"by": "shard", "count": shards})


def names(prompt_set: PromptSet) -> dict[str, list[str]]:
    return {
        key: [request.source.prompt_name for request in of_it]
        for key, of_it in requests_by_partition(prompt_set, prompt_set.partition_keys())
    }


def test_a_prompts_takes_and_combinations_come_together() -> None:
    prompts = {"a": {"prompt": "a", "takes": 3}, "b": {"prompt": "{x}", "matrix": {"x": [1, 2]}}}
    assert names(a_set(prompts=prompts)) == {"a": ["a"] * 3, "b-1": ["b-1"], "b-2": ["b-2"]}


def test_days_come_one_after_the_other() -> None:
    diary = a_set(prompts={"a": "a", "b": "b"}, partitions={"by": "day", "start": "2026-11-01"})
    found = [
        (key, [request.source.prompt_name for request in of_it])
        for key, of_it in requests_by_partition(diary, ["2026-11-02", "2026-11-01"])
    ]
    assert found == [("2026-11-01", ["a", "b"]), ("2026-11-02", ["a", "b"])]


def test_every_row_is_in_its_shard_once_and_empty_shards_come_too(tmp_path: Path) -> None:
    animals = a_table(tmp_path, rows=20, shards=40)
    found = names(animals)
    assert list(found) == list(animals.partition_keys())
    assert Counter(name for shard in found.values() for name in shard) == Counter(
        f"a-animal-{row}" for row in range(20)
    )
    assert all(
        animals.partition_keys().index(key) >= 0 and request.source.partition == key
        for key, of_it in requests_by_partition(animals, animals.partition_keys())
        for request in of_it
    )


def test_small_shards_are_read_many_in_one_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "AT_ONCE", 50)
    animals = a_table(tmp_path, rows=200, shards=20)
    passes: list[int] = []
    whole = PromptSet.requests

    def counted(self: PromptSet, partitions: dict[str, object], **given: Any) -> object:
        passes.append(len(partitions))
        return whole(self, partitions, **given)

    with patch.object(PromptSet, "requests", counted):
        found = names(animals)
    assert sum(map(len, found.values())) == 200
    assert passes[0] == 1
    assert sum(passes) == 20
    assert len(passes) <= 8


def test_contents_count_what_is_asked_for() -> None:
    prompts = {"a": {"prompt": "a castle", "takes": 2, "num_outputs": 3}, "b": "b"}
    prompt_set = a_set(prompts=prompts)
    found = read_contents(prompt_set, ["a", "b"])
    version = prompt_set.data_version("a")
    assert found["a"] == Content(2, 6, pytest.approx(0.018), "a castle", version)
    assert (found["b"].requests, found["b"].images) == (1, 1)


def test_an_empty_shard_has_a_content(tmp_path: Path) -> None:
    animals = a_table(tmp_path, rows=1, shards=3)
    contents = read_contents(animals, animals.partition_keys())
    assert sorted(each.requests for each in contents.values()) == [0, 0, 1]


def test_an_unknown_partition_is_an_error_before_any_request() -> None:
    with pytest.raises(ConfigError, match="no partition c"):
        next(requests_by_partition(a_set(prompts={"a": "a"}), ["c"]))
