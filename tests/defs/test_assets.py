"""One prompt set's run: an event a partition, and failures that stay where they are."""

import base64
import hashlib
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from flux_pipeline.defs.assets import POOL, build_assets
from flux_pipeline.defs.build import without_beta_warnings
from flux_pipeline.defs.checks import CHECKS
from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.produce import producer
from tests.defs.asset_runner import QUIET, AssetRunner, checks

FOUR = """
prompts:
  castle: a castle in winter
  harbour: a harbour in winter
  moon: the moon in winter
  zoo: a zoo in winter
"""


def completeness(result: dg.ExecuteInProcessResult) -> dict[str | None, bool]:
    """Whether the images are complete, by partition."""
    return {
        each.partition: each.passed
        for each in result.get_asset_check_evaluations()
        if each.check_name == "images_are_complete"
    }


def test_a_run_makes_an_event_for_every_partition_and_a_gallery(runner: AssetRunner) -> None:
    runner.options = EmulatorOptions(time_scale=0)  # real pictures: each other pixels
    winter = runner.write(FOUR)
    result = runner.run(winter)
    assert result.success
    assert set(runner.statuses(winter, "prompts").values()) == {"MATERIALIZED"}
    assert set(runner.statuses(winter).values()) == {"MATERIALIZED"}
    per_asset = [event.asset_key for event in result.get_asset_materialization_events()]
    assert [per_asset.count(key) for key in (runner.keys.prompts, runner.keys.images)] == [4, 4]
    assert per_asset.count(runner.keys.gallery) == 1
    assert checks(result) == dict.fromkeys(CHECKS, True)
    assert runner.usage().creates_accepted == 4


def test_an_images_event_says_what_was_made_where_and_for_how_much(runner: AssetRunner) -> None:
    winter = runner.write("prompts: {castle: {prompt: a castle, num_outputs: 2, takes: 2}}")
    runner.run(winter)
    shown = runner.metadata("images", "castle")
    assert shown["dagster/row_count"] == 4
    assert (shown["flux/asked_images"], shown["flux/stored_images"]) == (4, 4)
    assert shown["flux/created_predictions"] == 2
    assert shown["flux/cost_usd"] == pytest.approx(0.012)
    assert shown["flux/run_seconds"] > 0
    assert shown["flux/prompt"] == "a castle"
    assert shown["dagster/uri"].startswith((runner.folder / "store/images").as_uri())
    assert shown["flux/lineage_uri"].endswith(".parquet")
    pictures = shown["flux/previews"].splitlines()
    assert len(pictures) == 2
    for picture in pictures:
        data = picture.removeprefix("![castle](data:image/jpeg;base64,").removesuffix(")")
        assert base64.b64decode(data).startswith(b"\xff\xd8\xff")
    assert len(shown["flux/preview"]) < 1_000 < len(shown["flux/previews"]) < 20_000


def test_a_prompts_event_says_what_is_asked_for(runner: AssetRunner) -> None:
    winter = runner.write("prompts: {castle: {prompt: a castle, takes: 3, num_outputs: 2}}")
    runner.run(winter, "prompts")
    shown = runner.metadata("prompts", "castle")
    assert (shown["dagster/row_count"], shown["flux/images"]) == (3, 6)
    assert shown["flux/estimate_usd"] == pytest.approx(0.018)
    assert runner.usage().creates_received == 0


def test_a_run_that_names_no_partition_makes_all_and_a_second_one_asks_for_nothing(
    runner: AssetRunner,
) -> None:
    winter = runner.write(FOUR)
    assert runner.run(winter, named=False).success
    assert set(runner.statuses(winter).values()) == {"MATERIALIZED"}
    assert runner.usage().distinct_inputs == 4
    before = runner.event("images", "moon"), runner.metadata("images", "moon")
    runner.run(winter)
    assert runner.usage().creates_received == 4
    after = runner.metadata("images", "moon")
    assert (after["flux/unchanged_images"], after["flux/stored_images"]) == (1, 0)
    assert after["flux/cost_usd"] == 0
    assert after["flux/preview"] == before[1]["flux/preview"]
    versions = [
        (event.tags or {})["dagster/data_version"]
        for event in (before[0], runner.event("images", "moon"))
    ]
    assert versions[0] == versions[1]


def test_a_failed_partition_fails_alone_and_is_named_with_its_reason(runner: AssetRunner) -> None:
    runner.serve(FaultPlan(outcome={"failed_permanent": 1.0}, only_prompts="moon", cap=100))
    winter = runner.write(FOUR)
    result = runner.run(winter, raise_on_error=False)
    assert not result.success
    assert runner.statuses(winter) == {
        "castle": "MATERIALIZED",
        "harbour": "MATERIALIZED",
        "moon": "FAILED",
        "zoo": "MATERIALIZED",
    }
    (failure,) = result.filter_events(lambda event: event.is_step_failure)
    data = failure.step_failure_data.user_failure_data
    assert data is not None
    assert data.description is not None
    assert data.description.startswith("1 of 4 partitions failed\nmoon: ")
    (observed,) = runner.instance.fetch_observations(runner.keys.images, limit=5).records
    assert observed.partition_key == "moon"
    assert observed.asset_observation is not None
    reasons = observed.asset_observation.metadata["flux/reasons"].value
    assert isinstance(reasons, dict)
    assert list(reasons) == [data.description.splitlines()[1].removeprefix("moon: ")]
    assert list(data.metadata["flux/failed_partitions"].value) == ["moon"]
    assert completeness(result) == {"castle": True, "harbour": True, "moon": False, "zoo": True}
    shown = runner.metadata("gallery")
    assert (shown["dagster/row_count"], shown["flux/missing_images"]) == (3, 1)


def test_a_check_on_a_partition_speaks_of_its_latest_images(runner: AssetRunner) -> None:
    winter = runner.write(FOUR)
    runner.run(winter)
    runner.run(winter, keys=["harbour", "moon"])
    check = dg.AssetCheckKey(runner.keys.images, "images_are_complete")
    found = runner.instance.event_log_storage.get_asset_check_partition_info([check])
    assert {info.partition_key for info in found} == set(winter.partition_keys())
    for info in found:
        assert info.latest_execution_status.value == "SUCCEEDED"
        assert info.latest_target_materialization_storage_id is not None
        assert (
            info.latest_target_materialization_storage_id == info.latest_materialization_storage_id
        )


def test_checks_without_images_fail_and_say_so(runner: AssetRunner) -> None:
    winter = runner.write("prompts: {castle: a castle}")
    key = dg.AssetCheckKey(runner.keys.images, "nothing_is_held")
    job = dg.define_asset_job(
        "only_checks", selection=dg.AssetSelection.checks(key), executor_def=dg.in_process_executor
    )
    definitions = dg.Definitions.merge(runner.definitions(winter), dg.Definitions(jobs=[job]))
    result = definitions.resolve_job_def("only_checks").execute_in_process(
        instance=runner.instance, run_config=QUIET, raise_on_error=False
    )
    (failure,) = result.filter_events(lambda event: event.is_step_failure)
    data = failure.step_failure_data.user_failure_data
    assert data is not None
    assert "what is unchanged costs nothing" in (data.description or "")


def test_running_again_after_a_failure_pays_for_what_is_missing_alone(runner: AssetRunner) -> None:
    runner.serve(FaultPlan(outcome={"failed_pa": 1.0}, only_prompts="moon", cap=100))
    winter = runner.write(FOUR)
    assert not runner.run(winter, raise_on_error=False).success
    paid = runner.usage().creates_accepted
    runner.serve(FaultPlan())
    assert runner.run(winter).success
    assert set(runner.statuses(winter).values()) == {"MATERIALIZED"}
    assert runner.usage().creates_accepted == paid + 1


def test_images_that_the_provider_refuses_are_named_and_do_not_fail_the_rest(
    runner: AssetRunner,
) -> None:
    runner.serve(FaultPlan(outcome={"images_refused": 1.0}, cap=100))
    winter = runner.write("prompts: {castle: {prompt: a castle, num_outputs: 4}}")
    result = runner.run(winter)
    shown = runner.metadata("images", "castle")
    assert shown["flux/refused_images"] >= 1
    assert shown["flux/refused_images"] + shown["flux/stored_images"] == 4
    (check,) = [
        each
        for each in result.get_asset_check_evaluations()
        if each.check_name == "images_are_complete"
    ]
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.WARN
    assert check.partition == "castle"
    (named, reason), *_ = check.metadata["flux/wrong"].value.items()
    assert named.startswith("castle, image ")
    assert reason.startswith("left out by the provider")


def test_a_budget_stops_before_the_request_that_would_exceed_it(runner: AssetRunner) -> None:
    winter = runner.write(FOUR + "budget: {usd_per_run: 0.0065}\n")
    result = runner.run(winter, raise_on_error=False)
    assert not result.success
    assert runner.usage().creates_received == 2
    assert sorted(runner.statuses(winter).values()) == ["FAILED"] * 2 + ["MATERIALIZED"] * 2


def test_the_budget_of_a_day_holds_over_all_runs(
    runner: AssetRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer, "_now", lambda: datetime(2026, 11, 20, 12, tzinfo=UTC))
    runner.limits = {"usd_per_day": 0.0065}
    winter = runner.write(FOUR)
    runner.run(winter, keys=["castle", "castle"])
    assert not runner.run(winter, raise_on_error=False).success
    assert runner.usage().creates_received == 2


def test_a_key_that_is_refused_fails_in_words_and_nothing_is_made(runner: AssetRunner) -> None:
    runner.serve(FaultPlan(unauthorized_after=0))
    winter = runner.write(FOUR)
    result = runner.run(winter, raise_on_error=False)
    (failure,) = result.filter_events(lambda event: event.is_step_failure)
    data = failure.step_failure_data.user_failure_data
    assert data is not None
    assert "401" in (data.description or "")
    assert "a-key" not in str(failure)
    assert "MATERIALIZED" not in runner.statuses(winter).values()


def test_a_table_that_changed_since_it_was_loaded_sends_nothing(runner: AssetRunner) -> None:
    table = runner.folder / "animals.csv"
    table.write_text("animal\nfox\n")
    winter = runner.write('prompts: {a: {prompt: "a {animal}", table: animals.csv, key: animal}}')
    table.write_text("animal\nfox\nowl\n")
    result = runner.run(winter, raise_on_error=False)
    (failure,) = result.filter_events(lambda event: event.is_step_failure)
    assert "changed since it was loaded" in str(failure.step_failure_data.user_failure_data)
    assert runner.usage().creates_received == 0


def test_assets_can_be_made_each_alone(runner: AssetRunner) -> None:
    winter = runner.write("prompts: {castle: a castle}")
    runner.run(winter, "gallery")
    assert runner.metadata("gallery")["dagster/row_count"] == 0
    runner.run(winter, "images")
    assert runner.statuses(winter, "prompts") == {"castle": "MISSING"}
    runner.run(winter, "prompts")
    assert runner.statuses(winter, "prompts") == {"castle": "MATERIALIZED"}
    runner.run(winter, "gallery")
    assert runner.metadata("gallery")["dagster/row_count"] == 1


def test_an_empty_shard_is_made_too(runner: AssetRunner) -> None:
    winter = runner.write("partitions: {by: shard, count: 4}\nprompts: {castle: a castle}\n")
    runner.run(winter)
    assert set(runner.statuses(winter).values()) == {"MATERIALIZED"}
    counts = [
        runner.metadata("images", key)["dagster/row_count"] for key in winter.partition_keys()
    ]
    assert sorted(counts) == [0, 0, 0, 1]


def test_days_are_made_with_seeds_of_their_own(runner: AssetRunner) -> None:
    diary = runner.write("partitions: {by: day, start: 2026-11-01}\nprompts: {a: 'on {date}'}\n")
    runner.run(diary, keys=["2026-11-03", "2026-11-05"])
    shown = [runner.metadata("images", f"2026-11-0{day}") for day in (3, 4, 5)]
    assert [each["flux/prompt"] for each in shown] == [
        "on 2026-11-03",
        "on 2026-11-04",
        "on 2026-11-05",
    ]
    assert runner.usage().distinct_inputs == 3


def test_a_run_that_names_no_day_says_what_to_name_and_sends_nothing(runner: AssetRunner) -> None:
    diary = runner.write("partitions: {by: day, start: 2026-11-01}\nprompts: {a: 'on {date}'}\n")
    result = runner.run(diary, named=False, raise_on_error=False)
    (failure,) = result.filter_events(lambda event: event.is_step_failure)
    data = failure.step_failure_data.user_failure_data
    assert data is not None
    assert "is made by day: name a day" in (data.description or "")
    assert runner.usage().creates_received == 0


def test_what_lies_in_the_store_is_read_back(runner: AssetRunner) -> None:
    winter = runner.write("prompts: {castle: a castle}")
    runner.run(winter)
    (image,) = (runner.folder / "store/images").rglob("*.webp")
    image.write_bytes(image.read_bytes()[:-100])
    result = runner.run(winter)
    assert not checks(result)["images_are_readable"]


def test_prompts_are_shown_as_text_and_without_secrets(runner: AssetRunner) -> None:
    secret = "r8_" + "a1" * 20
    winter = runner.write(f'prompts: {{castle: "![x](http://x) <b>\\u202e {secret}"}}')
    runner.run(winter)
    for asset in ("prompts", "images"):
        metadata = runner.event(asset, "castle").metadata
        assert isinstance(metadata["flux/prompt"], dg.TextMetadataValue)
        assert metadata["flux/prompt"].value == "![x](http://x) <b>\\u202e REDACTED"
    assert secret not in str(runner.instance.all_logs(runner.run(winter).run_id))


def test_the_gallery_lies_where_its_event_says_and_no_pickle_anywhere(runner: AssetRunner) -> None:
    winter = runner.write("description: <Winter> & more\nprompts: {castle: a castle}")
    runner.run(winter)
    folder = runner.folder / f"store/galleries/{runner.name}"
    page = (folder / "index.html").read_text()
    shown = runner.metadata("gallery")
    assert shown["dagster/uri"] == (folder / "index.html").as_uri()
    assert shown["dagster/size_bytes"] == len(page.encode())
    assert r"\u003cWinter\u003e \u0026 more" in page
    assert f'"images/{runner.name}/castle-' in (folder / "chapter-00001.js").read_text()
    assert '"/9j/' in (folder / "details-00001.js").read_text()  # a JPEG, in base64
    home = Path(runner.instance.storage_directory())
    assert [path for path in home.rglob("*") if path.is_file() and "castle" in str(path)] == []


def test_a_range_makes_what_lies_between_its_ends_and_the_gallery_reads_what_is_new_alone(
    runner: AssetRunner,
) -> None:
    winter = runner.write(FOUR)
    runner.run(winter, keys=["harbour", "moon"])
    missing, made = "MISSING", "MATERIALIZED"
    assert list(runner.statuses(winter).values()) == [missing, made, made, missing]
    shown = runner.metadata("gallery")
    assert shown["dagster/row_count"] == 2
    assert 1 <= shown["flux/read_parts"] <= 2  # those that end together share one
    runner.run(winter, keys=["zoo", "zoo"])
    shown = runner.metadata("gallery")
    assert (shown["flux/read_parts"], shown["dagster/row_count"]) == (1, 3)


def test_the_step_that_pays_is_never_retried_and_waits_in_the_pool(runner: AssetRunner) -> None:
    with without_beta_warnings():
        assets = build_assets(runner.write(FOUR))
    assert assets.op.retry_policy is None
    assert assets.op.pool == POOL
    assert assets.backfill_policy == dg.BackfillPolicy.single_run()
    assert assets.can_subset


def test_partitions_of_a_set_are_built_once_because_dagster_checks_each_key(
    runner: AssetRunner,
) -> None:
    with without_beta_warnings():
        assets = build_assets(runner.write(FOUR))
    built = {id(spec.partitions_def) for spec in assets.specs if spec.partitions_def}
    built |= {id(spec.partitions_def) for spec in assets.check_specs if spec.partitions_def}
    assert len(built) == 1


def test_the_data_version_is_that_of_the_pictures(runner: AssetRunner) -> None:
    winter = runner.write("prompts: {castle: {prompt: a castle, takes: 2}}")
    runner.run(winter)
    tags = runner.event("images", "castle").tags or {}
    assert len(tags["dagster/data_version"]) == len(hashlib.sha256().hexdigest())
    runner.run(runner.write("prompts: {castle: {prompt: a castle, takes: 3}}"))
    assert (runner.event("images", "castle").tags or {})["dagster/data_version"] != tags[
        "dagster/data_version"
    ]
