"""A backfill of a prompt set and what follows it, as the web interface asks the daemon for it.

The daemon's own loop is run here, tick by tick, and so are the runs; Dagster's executor gives each
step a process, from the fork server that has imported everything.
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
from tests.servers.fork_server import context

ROOT = Path(__file__).parents[2]
INSTANCE = """
telemetry: {enabled: false}
nux: {enabled: false}
run_coordinator: {module: dagster.core.run_coordinator, class: DefaultRunCoordinator}
run_launcher:
  module: dagster._core.launcher.sync_in_memory_run_launcher
  class: SyncInMemoryRunLauncher
"""
CODE = """
from pathlib import Path
import dagster as dg
from flux_pipeline import ImageProducer, Images, images_of
from flux_pipeline.defs.build import build_set
from flux_pipeline.prompts import load_prompt_set

winter = load_prompt_set(Path(__file__).with_name("winter.yaml"))
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

own = dg.Definitions(
    assets=[each, together],
    resources={"image_producer": ImageProducer(**FIELDS)},
    executor=dg.multiprocess_executor.configured({"start_method": {"forkserver": {}}}),
)
defs = dg.Definitions.merge(build_set(winter), own)
"""
KEYS = [dg.AssetKey(["winter", "images"]), dg.AssetKey("each"), dg.AssetKey("together")]
MOST_TICKS = 50
_OVER = ("COMPLETED", "FAILED", "CANCELED")


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ImageStudio]:
    (tmp_path / "winter.yaml").write_text(f"{HEAD}prompts: {{castle: a castle, moon: the moon}}")
    (tmp_path / "home").mkdir()
    (tmp_path / "home/dagster.yaml").write_text(INSTANCE)
    faults = FaultPlan(outcome={"failed_permanent": 1.0}, only_prompts="moon", cap=100)
    with open_studio(tmp_path, faults) as opened:
        fields = opened.image_producer.model_dump(exclude_defaults=True)
        (tmp_path / "code_location.py").write_text(CODE.replace("FIELDS", repr(fields)))
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        monkeypatch.setenv("PYTHONWARNINGS", "ignore")
        context()  # before the executor would start a fork server that has imported less
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
        for _tick in range(MOST_TICKS):
            list(execute_backfill_iteration(workspace, logging.getLogger("backfill")))
            found = instance.get_backfill("winter")
            if found is not None and found.status.value.startswith(_OVER):
                break
        made = {key.to_user_string(): instance.get_materialized_partitions(key) for key in KEYS}
        runs = {run.status.value for run in instance.get_runs()}

    assert made == {key.to_user_string(): {"castle"} for key in KEYS}
    assert runs == {"FAILURE", "SUCCESS"}  # of the set with its follower, and of the other
    assert found is not None
    assert found.status.value == "COMPLETED_FAILED"
