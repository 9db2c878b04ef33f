"""What of docs/cluster.md needs no cluster to be checked."""

from typing import Any

import yaml

from tests import documents
from tests.cluster.cluster import DOCUMENT, WORKERS, commands


def blocks() -> dict[str, Any]:
    return {each.path: yaml.safe_load(each.text) for each in documents.blocks("yaml", DOCUMENT)}


def test_one_worker_more_than_the_pool_takes_is_free_for_a_rescue() -> None:
    limits = blocks()["cluster/dagster.yaml"]["concurrency"]
    pools = {"default_limit": len(WORKERS) - 1, "granularity": "run"}
    assert limits == {"runs": {"max_concurrent_runs": len(WORKERS)}, "pools": pools}


def test_the_manifest_starts_as_many_of_the_same_workers() -> None:
    spec = blocks()["kubernetes/workers.yaml"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert container["args"] == commands()[-1]
    assert spec["replicas"] == len(WORKERS)
