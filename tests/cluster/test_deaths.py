"""Runs that end before their work is done: who finishes them, and what was paid.

They are in this order because the second leaves a worker fewer, and the third something to do.
"""

import os
import re
import signal

from flux_pipeline.ledger.open import open_ledger
from tests.cluster.cluster import Cluster, Run
from tests.cluster.test_backfills import BACKFILL_SECONDS, shards

IMAGES = 240
MOST_SECONDS = 100
"""A run may take, where its worker dies: it takes 30 s here, and 60 s alone."""


def start(cluster: Cluster, name: str, **tags: str) -> tuple[str, list[Run]]:
    """Start two runs of one backfill, on a worker each, and come back when both are half-way."""
    prompts = [f"{name} number {number}" for number in range(IMAGES)]
    before = cluster.provider.usage(predictions=False).creates_accepted
    cluster.load(name, shards(prompts, 8, 4))
    backfill = cluster.backfill(name, **tags)

    def half_way() -> list[Run] | None:
        runs = [run for run in cluster.runs(backfill) if cluster.worker_of(run)]
        paid = cluster.provider.usage(predictions=False).creates_accepted - before
        return runs if len(runs) == 2 and paid >= IMAGES // 4 else None

    runs = cluster.wait(half_way, "work of two workers", BACKFILL_SECONDS)
    first, second = map(cluster.worker_of, runs)
    assert first is not second
    return backfill, runs


def assert_finished_by_a_retry(cluster: Cluster, backfill: str, died: Run) -> None:
    """Assert that another run took over what was under way, and that nothing was paid twice."""
    assert cluster.end(backfill, BACKFILL_SECONDS) == "COMPLETED_SUCCESS"
    runs = {run.id: run for run in cluster.runs(backfill)}
    (again,) = [run for run in runs.values() if run.tags.get("parent_run_id") == died.id]
    assert runs[died.id].status == "FAILURE"
    assert {run.status for run in runs.values() if run.id != died.id} == {"SUCCESS"}
    assert len(runs) == 3
    assert again.id != died.id
    with open_ledger(cluster.environment["FLUX_LEDGER"]) as ledger:
        begun = [each for each in ledger.attempts() if each.intent.run_id == died.id]
    assert any(each.claims > 1 for each in begun), "it died with predictions under way"
    assert cluster.provider.usage().duplicates == ()
    assert "all agree" in cluster.command("verify")


def test_the_run_of_a_killed_process_is_started_again(cluster: Cluster) -> None:
    backfill, (dying, _) = start(cluster, "brook")
    process = re.search(r"Started process for run \(pid: (\d+)\)", dying.said)
    assert process is not None
    os.kill(int(process[1]), signal.SIGKILL)
    assert_finished_by_a_retry(cluster, backfill, dying)


def test_the_run_of_a_killed_worker_is_finished_by_another(cluster: Cluster) -> None:
    backfill, (dying, _) = start(cluster, "ridge", max_runtime=str(MOST_SECONDS))
    killed = cluster.worker_of(dying)
    assert killed is not None
    killed.kill()
    assert_finished_by_a_retry(cluster, backfill, dying)
    for run in cluster.runs(backfill):
        if run.id == dying.id:
            assert f"Exceeded maximum runtime of {MOST_SECONDS} seconds." in run.said
        else:
            assert cluster.worker_of(run) is not killed


def test_a_terminated_run_is_canceled_and_not_started_again(cluster: Cluster) -> None:
    backfill, (run, other) = start(cluster, "pond")
    cluster.terminate(run)
    cluster.end(backfill, BACKFILL_SECONDS)
    ended = {each.id: each.status for each in cluster.runs(backfill)}
    assert ended == {run.id: "CANCELED", other.id: "SUCCESS"}
    assert cluster.provider.usage().duplicates == ()
