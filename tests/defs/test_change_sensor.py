"""Edited prompt sets: noticed, and reloaded through the web interface or reported as wrong."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from flux_pipeline.defs.build import build_definitions
from flux_pipeline.defs.change_sensor import (
    build_changes_sensor,
    describe_changes,
    watch_folder,
)
from flux_pipeline.prompts import load_prompt_sets
from flux_pipeline.resources import ImageProducer
from tests.defs.asset_runner import HEAD, AssetRunner
from tests.defs.web_interface import NOWHERE, RELOADED, ConfigsSensor, web_interface


class WatchedPromptSets:
    """A folder of prompt sets, and the sensor of what was loaded of it."""

    def __init__(self, folder: Path, ui_url: str, instance: dg.DagsterInstance) -> None:
        self.folder, self.ui_url, self.instance = folder, ui_url, instance
        self.load()

    def load(self) -> None:
        watched = watch_folder(self.folder)
        definitions = dg.Definitions.merge(
            build_definitions(watched.prompt_sets, ImageProducer()),
            dg.Definitions(sensors=[build_changes_sensor(watched, self.ui_url)]),
        )
        self.sensor = ConfigsSensor(definitions, self.instance)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(HEAD + text)

    def tick(self) -> tuple[str, Sequence[dg.RunRequest]]:
        return self.sensor.tick()

    def said(self) -> str:
        return self.sensor.said()


@pytest.fixture
def watched(tmp_path: Path, instance: dg.DagsterInstance) -> WatchedPromptSets:
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "winter.yaml").write_text(HEAD + "prompts: {a: a, b: b}\n")
    return WatchedPromptSets(folder, NOWHERE, instance)


def test_nothing_is_asked_where_nothing_changed(watched: WatchedPromptSets) -> None:
    assert watched.said() == "Files unchanged since they were loaded: 1."


def test_a_file_that_was_merely_touched_is_unchanged(watched: WatchedPromptSets) -> None:
    os.utime(watched.folder / "winter.yaml", ns=(1, 1))
    assert watched.said() == "Files unchanged since they were loaded: 1."


def test_an_edit_reloads_the_code_location_once(watched: WatchedPromptSets) -> None:
    with web_interface(RELOADED, place=watched.folder) as (watched.ui_url, got):
        watched.load()
        watched.write("winter.yaml", "prompts: {a: a, b: other}\n")
        said = watched.said()
        assert "winter: 1 edited (b)" in said
        assert said.endswith("the code location studio was reloaded")
        assert watched.said() == said
    assert [each["variables"] for each in got] == [{"name": "studio"}]


def test_where_the_web_interface_is_away_the_tick_says_what_to_press(
    watched: WatchedPromptSets,
) -> None:
    watched.write("winter.yaml", "prompts: {a: a}\n")
    said = watched.said()
    assert "winter.yaml changed (winter: 1 removed (b; the pictures stay))" in said
    assert f"press Reload at {NOWHERE}/locations" in said
    with web_interface(RELOADED, place=watched.folder) as (watched.ui_url, got):
        watched.load()
        watched.write("winter.yaml", "prompts: {c: c}\n")
        assert "was reloaded" in watched.said()
    assert len(got) == 1


def test_a_mistake_is_reported_with_its_file_and_line_and_nothing_is_reloaded(
    watched: WatchedPromptSets,
) -> None:
    with web_interface(place=watched.folder) as (watched.ui_url, got):
        watched.load()
        watched.write("winter.yaml", "prompts:\n  a: {prompt: a, num_outputs: 9}\n")
        said = watched.said()
        assert "winter.yaml changed; not loaded, the prompt sets before it go on:" in said
        assert "winter.yaml:3: prompts.a.num_outputs" in said
        assert watched.said() == said
    assert got == []


def test_picks_that_changed_are_noticed_and_wrong_ones_are_told_by_row(
    watched: WatchedPromptSets,
) -> None:
    picks = watched.folder / "picks.csv"
    publish = "choose: picks.csv\npublish: {variants: {web: {width: 32}}}\nprompts: {a: a}\n"
    watched.write("winter.yaml", publish)
    watched.load()
    assert "unchanged" in watched.said()
    picks.write_text("prompt,take\na,1\n")
    assert "picks.csv changed (winter: other picks)" in watched.said()
    watched.load()
    assert "unchanged" in watched.said()
    picks.write_text("prompt,take\na,first\n")
    said = watched.said()
    assert "picks.csv changed; not loaded" in said
    assert "row 1: take" in said


def test_a_table_that_changed_is_noticed(watched: WatchedPromptSets) -> None:
    (watched.folder / "t.csv").write_text("x\nfox\n")
    watched.write("winter.yaml", 'prompts: {a: {prompt: "a {x}", table: t.csv, key: x}}\n')
    watched.load()
    assert "unchanged" in watched.said()
    (watched.folder / "t.csv").write_text("x\nfox\nowl\n")
    assert "winter: its table is another, 1 new (a-owl)" in watched.said()


def test_new_and_gone_files_are_noticed(watched: WatchedPromptSets) -> None:
    (watched.folder / "winter.yaml").unlink()
    watched.write("summer.yaml", "prompts: {a: a}\n")
    assert "summer is new; winter is gone, its pictures stay" in watched.said()


@pytest.mark.parametrize("place", ["/another/clone/configs", ""])
def test_a_web_interface_of_another_project_is_left_alone_and_the_tick_says_so(
    watched: WatchedPromptSets, place: str
) -> None:
    with web_interface(place=place) as (watched.ui_url, got):
        watched.load()
        watched.write("winter.yaml", "prompts: {a: a, b: other}\n")
        for _ in range(2):
            said = watched.said()
            assert "press Reload in its own web interface" in said
            assert f"and not those of {watched.folder}: set FLUX_UI_URL" in said
            assert place in said
    assert got == []


def test_edits_of_one_prompt_among_many_are_named_alone(tmp_path: Path) -> None:
    def load(**changed: str) -> Any:
        prompts = {f"p{number}": f"number {number}" for number in range(200)} | changed
        (tmp_path / "big.yaml").write_text(HEAD + f"prompts: {json.dumps(prompts)}\n")
        return load_prompt_sets(tmp_path)

    before = load()
    assert list(describe_changes(before, load(p7="other"))) == ["big: 1 edited (p7)"]
    assert list(describe_changes(before, load())) == []


def test_prompts_of_an_edited_set_are_read_again_once_and_nothing_is_sent(
    runner: AssetRunner,
) -> None:
    runner.run(runner.write("prompts: {a: a, b: b}\n"))
    paid = runner.usage().creates_accepted
    edited = runner.write("prompts: {a: a, b: other, c: c}\n")
    (runner.folder / "configs").mkdir()
    path = runner.folder / f"configs/{runner.name}.yaml"
    path.write_bytes(Path(edited.path).read_bytes())
    watched = WatchedPromptSets(path.parent, NOWHERE, runner.instance)
    _, (request,) = watched.tick()
    assert request.tags["flux/prompt_set"] == runner.name
    assert request.asset_selection == [runner.keys.prompts]
    assert request.tags["dagster/asset_partition_range_start"] == "a"
    assert request.tags["dagster/asset_partition_range_end"] == "c"
    assert watched.tick() == ("Files unchanged since they were loaded: 1.", [])
    runner.run(edited, "prompts")
    watched.load()
    assert watched.tick()[1] == []
    assert runner.usage().creates_accepted == paid


def test_an_edit_that_is_taken_back_is_read_again_too(runner: AssetRunner) -> None:
    """Dagster starts no second run for a run key that a sensor has used before."""
    texts = [f"prompts: {{a: a, b: {b}}}\n" for b in ("first", "second")] * 2
    (folder := runner.folder / "configs").mkdir()
    keys = []
    for text in texts:
        prompt_set = runner.write(text)
        (folder / f"{runner.name}.yaml").write_bytes(Path(prompt_set.path).read_bytes())
        keys += [
            request.run_key
            for request in WatchedPromptSets(folder, NOWHERE, runner.instance).tick()[1]
        ]
        runner.run(prompt_set, "prompts")
    assert len(set(keys)) == len(keys) == len(texts) - 1


def test_prompts_are_read_again_in_one_run_however_few_partitions_a_run_takes(
    runner: AssetRunner,
) -> None:
    few = "prompts: {a: a, b: B, c: c}\npartitions: {by: prompt, per_run: 1}"
    runner.run(runner.write(few), "prompts")
    runner.write(few.replace("B", "b"))
    watched = WatchedPromptSets(runner.folder, NOWHERE, runner.instance)
    (request,) = watched.tick()[1]
    assert request.tags["dagster/asset_partition_range_start"] == "a"
    assert request.tags["dagster/asset_partition_range_end"] == "c"


def test_prompts_that_nobody_has_read_are_left_missing(watched: WatchedPromptSets) -> None:
    assert watched.tick()[1] == []
