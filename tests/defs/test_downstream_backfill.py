"""A backfill of a prompt set and what follows it, as the web interface asks the daemon for it.

The daemon's own loop is run here, tick by tick; runs are launched into processes of their own, with
Dagster's default executor, which gives each step a process.
"""

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.backfill import PartitionBackfill
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.load_target import PythonFileTarget
from dagster._daemon.backfill import execute_backfill_iteration

from flux_pipeline.defs.launch import open_instance
from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.testing import ImageStudio, open_studio
from tests.defs.asset_runner import HEAD

ROOT = Path(__file__).parents[2]
INSTANCE = """
telemetry: {enabled: false}
nux: {enabled: false}
run_coordinator: {module: dagster.core.run_coordinator, class: DefaultRunCoordinator}
"""
CODE = """
import os
from pathlib import Path
import dagster as dg
from flux_pipeline import ImageProducer, Images, images_of
from flux_pipeline.defs.build import build_set
from flux_pipeline.prompts import load_prompt_set

winter = load_prompt_set(Path(os.environ["PROMPTS"]))
mine = images_of(winter)
ins = {"images": dg.AssetIn(key=mine.key)}

@dg.asset(ins=ins, partitions_def=mine.partitions_def)
def each(context, images: Images) -> None:
    assert images.partitions == (context.partition_key,)

@dg.asset(ins=ins, partitions_def=mine.partitions_def, output_required=False,
    backfill_policy=dg.BackfillPolicy.single_run())
def together(context, images: Images):
    for partition in images.partitions:
        yield dg.AssetMaterialization(context.asset_key, partition=partition)

producer = ImageProducer(
    provider=os.environ["FLUX_PROVIDER"], api_key=os.environ["FLUX_API_KEY"], settle_seconds=0.0,
    store=os.environ["FLUX_STORE"], ledger=os.environ["FLUX_LEDGER"])
own = dg.Definitions(assets=[each, together], resources={"image_producer": producer})
defs = dg.Definitions.merge(build_set(winter), own)
"""
KEYS = [dg.AssetKey(["winter", "images"]), dg.AssetKey("each"), dg.AssetKey("together")]
_OVER = ("COMPLETED", "FAILED", "CANCELED")
SECONDS = 300  # other processes: there is no clock to pass in


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ImageStudio]:
    (tmp_path / "winter.yaml").write_text(f"{HEAD}prompts: {{castle: a castle, moon: the moon}}")
    (tmp_path / "code_location.py").write_text(CODE)
    (tmp_path / "home").mkdir()
    (tmp_path / "home/dagster.yaml").write_text(INSTANCE)
    faults = FaultPlan(outcome={"failed_permanent": 1.0}, only_prompts="moon", cap=100)
    with open_studio(tmp_path, faults) as opened:
        monkeypatch.setenv("PROMPTS", str(tmp_path / "winter.yaml"))
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        monkeypatch.setenv("PYTHONWARNINGS", "ignore")
        for item in opened.environment.items():
            monkeypatch.setenv(*item)
        yield opened


@pytest.mark.filterwarnings("ignore")  # Dagster's own loop warns of itself
def test_the_others_followers_run_and_the_backfill_says_what_failed(studio: ImageStudio) -> None:
    target = PythonFileTarget(str(studio.folder / "code_location.py"), "defs", str(ROOT), None)
    with (
        open_instance(studio.folder / "home") as instance,
        create_test_daemon_workspace_context(target, instance) as workspace,
    ):
        backfill = PartitionBackfill.from_asset_partitions(
            backfill_id="winter",
            asset_graph=workspace.create_request_context().asset_graph,
            partition_names=["castle", "moon"],
            asset_selection=KEYS,
            backfill_timestamp=time.time(),
            tags={},
            dynamic_partitions_store=instance,
            all_partitions=False,
            title=None,
            description=None,
            run_config=None,
        )
        instance.add_backfill(backfill)
        deadline = time.monotonic() + SECONDS
        while (found := instance.get_backfill("winter")) and not found.status.value.startswith(
            _OVER
        ):
            assert time.monotonic() < deadline, [each.status for each in instance.get_runs()]
            list(execute_backfill_iteration(workspace, logging.getLogger("backfill")))
            time.sleep(0.2)  # the runs are processes: there is no clock to pass in
        made = {key.to_user_string(): instance.get_materialized_partitions(key) for key in KEYS}
        runs = {run.status.value for run in instance.get_runs()}

    assert made == {key.to_user_string(): {"castle"} for key in KEYS}
    assert runs == {"FAILURE", "SUCCESS"}  # of the set with its follower, and of the other
    assert found is not None
    assert found.status.value == "COMPLETED_FAILED"
