"""Which sets share a run: those of which everything is made, and that need none alone."""

from dataclasses import replace
from pathlib import Path

import pytest

from flux_pipeline.cli.unchanged import find_unchanged
from flux_pipeline.prompts import PromptSet, load_prompt_sets
from flux_pipeline.settings import Settings
from tests.cli.conftest import Make

HEAD = "model: lucataco/flux-schnell-lora\n"
ALONE = {
    "day": HEAD + "partitions: {by: day, start: 2026-11-01}\nprompts: {a: a}\n",
    "few": HEAD + "partitions: {by: shard, count: 2, per_run: 1}\nprompts: {a: a}\n",
    "shown": HEAD
    + "publish: {to: 'file:./public', variants: {web: {width: 64}}}\nprompts: {a: a}\n",
    "source": HEAD + "prompts: {a: a}\n",
    "taken": 'model: nightmareai/real-esrgan\nprompts: {a: {each: source, image: "{image}"}}\n',
}
"""Sets that need a run of their own, whatever is made of them."""


def found(settings: Settings, sets: list[PromptSet], **partitions: list[str]) -> set[str]:
    asked = {each.name: partitions.get(each.name) for each in sets}
    images = {each.name: 1 for each in sets}
    return {each.name for each in find_unchanged(settings, sets, asked, images)}


def test_sets_share_a_run_once_everything_of_them_is_made(
    folder: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    settings = replace(Settings(), ledger=f"sqlite:///{folder}/data/ledger.db")
    (folder / "configs/new.yaml").write_text(HEAD + "prompts: {a: a new one}\n")
    (folder / "configs/poor.yaml").write_text(HEAD + "budget: {usd_per_run: 5}\nprompts: {a: a}\n")
    for name, text in ALONE.items():
        (folder / f"configs/{name}.yaml").write_text(text)
    sets = list(load_prompt_sets(folder / "configs"))

    assert found(settings, sets) == set()

    make("tale", "map", "poor", "source", "few")
    assert found(settings, sets) == {"map", "poor", "tale"}
    assert found(settings, sets, tale=["king", "frog"]) == {"map", "poor", "tale"}
    assert found(settings, sets, tale=["king"]) == {"map", "poor"}
    (folder / "configs/poor.yaml").unlink()
    (folder / "configs/tale.yaml").write_text(HEAD + "prompts: {king: a king who has changed}\n")
    changed = list(load_prompt_sets(folder / "configs"))
    assert found(settings, changed) == set()  # one has nothing to share with


def test_a_ledger_that_cannot_be_read_is_left_to_the_runs_to_report(folder: Path) -> None:
    (folder / "data/ledger.db").write_bytes(b"no database" * 1_000)
    settings = replace(Settings(), ledger=f"sqlite:///{folder}/data/ledger.db")
    assert found(settings, list(load_prompt_sets(folder / "configs"))) == set()
