"""Checks: each sentence breaks on what it forbids, and only on that."""

from pathlib import Path

import dagster as dg
import pytest

from flux_pipeline.defs import checks
from flux_pipeline.defs.checks import build_check_specs, check_results
from flux_pipeline.defs.outcome import Outcome
from flux_pipeline.lineage.record import ImageRecord, ImageStatus
from flux_pipeline.produce.report import Ending
from flux_pipeline.store.folder import FolderStore
from tests.defs.reports import a_report, a_result, an_image
from tests.images.samples import encode, picture

IMAGES = dg.AssetKey(["winter", "images"])


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


def evaluate(outcome: Outcome, store: FolderStore) -> dict[str, dg.AssetCheckResult]:
    found: dict[str, dg.AssetCheckResult] = {}

    @dg.multi_asset_check(specs=build_check_specs(IMAGES))
    def run(context: dg.AssetCheckExecutionContext) -> object:
        for result in check_results(context, outcome, store):
            found[result.check_name or ""] = result
            yield result

    dg.materialize([dg.AssetSpec(IMAGES)], selection=[])
    definitions = dg.Definitions(assets=[dg.AssetSpec(IMAGES)], asset_checks=[run])
    definitions.resolve_implicit_global_asset_job_def().execute_in_process()
    return found
