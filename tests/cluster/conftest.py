"""A cluster for each module: one of them loses its workers."""

import importlib.util
import os
from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster, running_cluster

ASKED = "FLUX_TEST_CLUSTER"
"""A switch, because it takes minutes: Dagster's daemon looks at a backfill every half a minute."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if not os.environ.get(ASKED):
        pytest.skip(f"takes 13 minutes: {ASKED}=1 pytest -n 0 tests/cluster")
    if importlib.util.find_spec("dagster_celery") is None:
        pytest.skip("needs Celery: uv sync --extra celery")
    with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster
