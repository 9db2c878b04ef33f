"""Provenance tags: their names are Dagster's, and pictures decide the version."""

import dagster as dg
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_TAG,
    DataProvenance,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.defs.data_versions import Upstream, find_upstream, images_version, version_tags
from flux_pipeline.lineage.record import ImageStatus
from tests.defs.asset_runner import AssetRunner
from tests.defs.reports import build_record

PROMPTS = dg.AssetKey(["winter", "prompts"])


def test_the_tags_have_the_names_that_dagster_reads() -> None:
    tags = {**version_tags("data", "code"), **Upstream(PROMPTS, "17").tags("used")}
    assert tags == {
        DATA_VERSION_TAG: "data",
        CODE_VERSION_TAG: "code",
        get_input_data_version_tag(PROMPTS): "used",
        get_input_event_pointer_tag(PROMPTS): "17",
    }


def test_dagster_reads_them_back() -> None:
    tags = {**version_tags("data", "code"), **Upstream(PROMPTS, "17").tags("used")}
    provenance = DataProvenance.from_tags(tags)
    assert provenance is not None
    assert provenance.code_version == "code"
    assert provenance.input_data_versions == {PROMPTS: dg.DataVersion("used")}
    assert provenance.input_storage_ids == {PROMPTS: 17}


def test_the_pointer_is_that_of_the_latest_event(runner: AssetRunner) -> None:
    assert find_upstream(runner.instance, runner.keys.prompts).pointer == "NULL"
    runner.run(runner.write("prompts: {a: a, b: b}"), "prompts")
    records = runner.instance.fetch_materializations(runner.keys.prompts, limit=10).records
    newest = max(record.storage_id for record in records)
    assert find_upstream(runner.instance, runner.keys.prompts).pointer == str(newest)


@given(st.permutations(range(5)))
def test_the_version_of_images_does_not_depend_on_their_order(order: list[int]) -> None:
    shuffled = images_version(build_record(number) for number in order)
    assert shuffled == images_version(build_record(number) for number in range(5))


def test_the_version_of_images_changes_with_every_picture() -> None:
    versions = {
        images_version(build_record(number) for number in range(count)) for count in range(5)
    }
    assert len(versions) == 5


def test_what_was_not_stored_has_no_part_in_the_version() -> None:
    missing = build_record("b", status=ImageStatus.REFUSED)
    assert images_version([build_record("a"), missing]) == images_version([build_record("a")])
