"""What a person sees and clicks in Dagster's web interface, in a real browser."""

import os
import re
import signal
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.ui.studio import Studio

SETS = ["castle", "crowd", "doubtful", "harbour", "often", "postcard", "storybook"]
RUN_SECONDS = 900
REASON = "NSFW content detected"

STALE = """{assetNodeOrError(assetKey: {path: ["crowd", "images"]}) {
  ... on AssetNode {staleStatusByPartition}
}}"""
AGAIN = """mutation($parent: String!) {
  reexecutePartitionBackfill(reexecutionParams: {parentRunId: $parent, strategy: FROM_FAILURE}) {
    ... on LaunchBackfillSuccess {backfillId}
    ... on PythonError {message}
  }
}"""
BACKFILL = """query($backfill: String!) {
  partitionBackfillOrError(backfillId: $backfill) {... on PartitionBackfill {status}}
}"""
STARTED = """query($run: ID!) {runOrError(runId: $run) {... on Run {
  eventConnection {events {... on MessageEvent {message}}}
}}}"""
RUNS = """{runsOrError {... on Runs {results {
  runId status tags {key value} assetSelection {path}
}}}}"""


@dataclass(frozen=True)
class Run:
    id: str
    status: str
    tags: dict[str, str]


def launch(studio: Studio, page: Page, prompt_set: str, *partitions: str) -> None:
    """Click what makes these partitions of a prompt set; without any, all of them."""
    page.goto(f'{studio.url}/asset-groups~group%3A"{prompt_set}"/')
    page.get_by_role("button", name="Materialize all").click()
    dialog = page.locator('[role="dialog"][aria-modal="true"]')
    if not partitions:
        dialog.get_by_role("button", name="All", exact=True).click()
    for partition in partitions:
        dialog.get_by_text("Select a partition").click()
        page.get_by_placeholder("Filter partitions").fill(partition)
        page.get_by_text(partition, exact=True).locator("visible=true").last.click()
        dialog.get_by_text("Launch runs to materialize").click()  # closes the list
    dialog.get_by_role("button", name=re.compile("^Launch (1 run|backfill)$")).click()
    expect(dialog).to_be_hidden()


def find_run(studio: Studio, prompt_set: str, *statuses: str, **tags: str) -> Run | None:
    """The latest run that makes images of this prompt set and is so far, with these tags."""
    found: list[dict[str, Any]] = studio.ask(RUNS)["runsOrError"]["results"]
    for run in found:
        chosen = [key["path"][-1] for key in run["assetSelection"] or ()]  # none: the whole job
        known = {tag["key"].removeprefix("dagster/"): tag["value"] for tag in run["tags"]}
        mine = known.get("flux/prompt_set") == prompt_set and (not chosen or "images" in chosen)
        if mine and run["status"] in statuses and tags.items() <= known.items():
            return Run(run["runId"], run["status"], known)
    return None


def end(studio: Studio, prompt_set: str, **tags: str) -> Run:
    """Wait for the end of this prompt set's run."""
    ends = ("SUCCESS", "FAILURE", "CANCELED")
    what = f"end of the run of {prompt_set}"
    return studio.wait(lambda: find_run(studio, prompt_set, *ends, **tags), what, RUN_SECONDS)


def is_over(studio: Studio, backfill: str) -> bool | None:
    """Whether the daemon has noticed that the runs of a backfill have ended."""
    found = studio.ask(BACKFILL, backfill=backfill)["partitionBackfillOrError"]["status"]
    return found not in {"REQUESTED", "FAILING", "CANCELING"} or None


def worker_of(studio: Studio, run: Run) -> int | None:
    """The process that a run lives in, once it has one."""
    events = studio.ask(STARTED, run=run.id)["runOrError"]["eventConnection"]["events"]
    said = " ".join(event.get("message", "") for event in events)
    started = re.search(r"Started process for run \(pid: (\d+)\)", said)
    return int(started[1]) if started else None


@pytest.fixture(scope="module")
def launched(studio: Studio, page: Page) -> None:
    """All that is made here, at once: several partitions wait half a minute for the daemon."""
    launch(studio, page, "doubtful")
    launch(studio, page, "harbour", "map")


@pytest.fixture(scope="module")
def made(studio: Studio, launched: None) -> Run:
    """A partition that succeeded."""
    return end(studio, "harbour")


@pytest.fixture(scope="module")
def failed(studio: Studio, launched: None) -> Run:
    """Three partitions, two of which the provider refused."""
    return end(studio, "doubtful")


def test_the_graph_shows_a_group_for_every_prompt_set(studio: Studio, page: Page) -> None:
    page.goto(f"{studio.url}/asset-groups")
    for name in [*SETS, "shared"]:
        expect(page.get_by_text(name, exact=True).first).to_be_visible()
    page.goto(f'{studio.url}/asset-groups~group%3A"storybook"/')
    for name in ("prompts", "images", "gallery"):
        expect(page.get_by_text(name, exact=True).first).to_be_visible()


def test_a_partition_is_made_by_clicking_and_seen(studio: Studio, page: Page, made: Run) -> None:
    assert made.status == "SUCCESS"
    page.goto(f"{studio.url}/assets/harbour/images?view=partitions&partition=map")
    picture = page.locator("img[src^='data:image/']").first
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 10
    shown = page.locator("body")
    expect(shown).to_contain_text("a hand-drawn map of a small harbour town")
    expect(shown).to_contain_text("Materialized (1)")
    cost = page.get_by_role("row", name="flux/cost_usd")
    expect(cost).to_contain_text("0.003")
    seconds = page.get_by_role("row", name="flux/run_seconds")
    expect(seconds).to_contain_text(re.compile(r"\d"))


def test_a_partition_shows_addresses_that_are_there(studio: Studio, page: Page, made: Run) -> None:
    page.goto(f"{studio.url}/assets/harbour/images?view=partitions&partition=map")
    image = page.get_by_text(re.compile("^file://.*/images/harbour/map-.*[.]webp$")).first
    expect(image).to_be_visible()
    page.goto(image.inner_text())
    assert page.locator("img").evaluate("image => image.naturalWidth") == 1344
    page.goto(f"{studio.url}/assets/harbour/gallery")
    gallery = page.get_by_text(re.compile("^file://.*/galleries/harbour/index.html$")).first
    expect(gallery).to_be_visible()
    page.goto(gallery.inner_text() + "#partition=map")
    expect(page.locator(".tile")).to_have_count(1)


def test_checks_show_their_results(studio: Studio, page: Page, made: Run) -> None:
    page.goto(f"{studio.url}/assets/harbour/images?view=checks")
    for name in ("images_are_complete", "images_are_readable", "images_are_distinct"):
        expect(page.get_by_text(name).first).to_be_visible()
    expect(page.get_by_text("Succeeded").first).to_be_visible()
    expect(page.get_by_text("Failed", exact=True)).to_have_count(0)


def test_a_run_says_what_it_made_and_what_it_cost(studio: Studio, page: Page, made: Run) -> None:
    assert made.tags["flux/prompt_set"] == "harbour"
    assert made.tags["flux/model"] == "lucataco/flux-schnell-lora"
    assert made.tags["flux/cost_usd"] == "0.0030"
    page.goto(f"{studio.url}/runs")
    expect(page.get_by_text("flux/cost_usd: 0.0030").first).to_be_visible()
    page.goto(f"{studio.url}/runs/{made.id}?logs=1+of+1+image")
    expect(
        page.get_by_text(re.compile(r"^map: 1 of 1 image, 0.0030 USD \(emulated\), ")).first
    ).to_be_visible()


def test_a_failing_partition_says_why(studio: Studio, page: Page, failed: Run) -> None:
    assert failed.status == "FAILURE"
    page.goto(f"{studio.url}/assets/doubtful/images?view=partitions&partition=torn")
    expect(page.locator("body")).to_contain_text("Failed (2)")
    expect(page.locator("body")).to_contain_text("Materialized (1)")
    page.get_by_role("button", name="View logs").click()
    reason = page.get_by_role("dialog").get_by_text(re.compile(f"torn.*: .*{REASON}")).first
    expect(reason).to_be_visible()
    page.goto(f"{studio.url}/assets/doubtful/images?view=partitions&partition=torn")
    page.get_by_role("button", name=re.compile("^View all historical events")).click()
    events = page.get_by_role("dialog")
    events.get_by_role("row", name=re.compile("torn.*Observation")).get_by_role("button").click()
    expect(events).to_contain_text(REASON)


def test_a_failed_runs_error_names_the_partitions(studio: Studio, page: Page, failed: Run) -> None:
    page.goto(f"{studio.url}/runs/{failed.id}")
    error = page.get_by_text(re.compile("2 of 3 partitions failed")).first
    expect(error).to_be_visible()
    for name in ("torn", "worn"):
        expect(page.get_by_text(re.compile(f"{name}.*: .*{REASON}")).first).to_be_visible()


def test_a_backfill_that_is_executed_again_takes_the_partitions_that_failed(
    studio: Studio, page: Page, failed: Run
) -> None:
    parent = failed.tags["backfill"]
    studio.wait(lambda: is_over(studio, parent), "end of the backfill", RUN_SECONDS)
    launched = studio.ask(AGAIN, parent=parent)["reexecutePartitionBackfill"]
    again = end(studio, "doubtful", backfill=launched["backfillId"])
    taken = [again.tags[f"asset_partition_range_{edge}"] for edge in ("start", "end")]
    assert taken == ["torn", "worn"]
    charged = studio.provider.usage()
    assert charged.creates_accepted == charged.distinct_inputs


@pytest.fixture(scope="module")
def crowd(studio: Studio, page: Page, failed: Run) -> Run:
    """Two hundred partitions, whose run's process was killed half-way and started again."""
    paid = studio.provider.usage().creates_accepted
    launch(studio, page, "crowd")
    run = studio.wait(lambda: find_run(studio, "crowd", "STARTED"), "run", RUN_SECONDS)
    worker = studio.wait(lambda: worker_of(studio, run), "process of the run")

    def is_half_way() -> bool | None:
        return studio.provider.usage().creates_accepted >= paid + 70 or None

    studio.wait(is_half_way, "images", RUN_SECONDS)
    os.kill(worker, signal.SIGKILL)
    return end(studio, "crowd", parent_run_id=run.id)


def test_a_killed_run_is_started_again_by_the_daemon_and_pays_nothing_twice(
    studio: Studio, page: Page, crowd: Run
) -> None:
    assert (crowd.status, crowd.tags["retry_number"]) == ("SUCCESS", "1")
    charged = studio.provider.usage()
    assert charged.creates_accepted == charged.distinct_inputs
    page.goto(f"{studio.url}/assets/crowd/images?view=partitions")
    expect(page.locator("body")).to_contain_text("Materialized (200)")


def test_of_two_hundred_prompts_the_edited_one_is_unsynced_and_named(
    studio: Studio, page: Page, crowd: Run
) -> None:
    file = studio.folder / "configs" / "crowd.yaml"
    file.write_text(file.read_text().replace("portrait number 7\n", "portrait of the seventh\n"))

    def unsynced() -> list[str] | None:
        found = studio.ask(STALE)["assetNodeOrError"]["staleStatusByPartition"]
        return [str(place) for place, status in enumerate(found) if status == "STALE"] or None

    assert studio.wait(unsynced, "stale partition", RUN_SECONDS) == ["7"]
    page.goto(f"{studio.url}/assets/crowd/images?view=partitions&partition=guest-007")
    expect(page.get_by_text("Unsynced (1)").first).to_be_visible()
    check = "images_follow_their_prompts"
    page.goto(f"{studio.url}/assets/crowd/images?view=checks&checkDetail={check}")
    expect(page.get_by_text("guest-007: its prompts were edited since").first).to_be_visible()


def test_a_set_with_a_schedule_shows_that_it_is_fresh(studio: Studio, page: Page) -> None:
    studio.wait(lambda: find_run(studio, "often", "SUCCESS"), "run on schedule", RUN_SECONDS)
    page.goto(f"{studio.url}/assets/often/images")
    expect(page.get_by_text("Freshness policy").first).to_be_visible()
    expect(page.get_by_text("Passing").first).to_be_visible(timeout=300_000)


def test_a_schedule_shows_its_next_tick_in_its_own_time_zone(studio: Studio, page: Page) -> None:
    page.goto(f"{studio.url}/locations/flux_pipeline/schedules/make_postcard_on_time")
    tick = page.get_by_role("row", name=re.compile("^Next tick"))
    expect(tick).to_contain_text(re.compile(r"6:00:00 AM (GMT\+[12]|CES?T)"))
    expect(page.get_by_role("row", name=re.compile("^Execution timezone"))).to_contain_text(
        "Europe/Berlin"
    )
