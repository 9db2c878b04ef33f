"""Prefect: a task for each image, whose result is kept and looked up by its inputs."""

import os

from benchmarks.peers.prediction import make_image, read_work

_THREADS = 32
work = read_work()
os.environ["PREFECT_HOME"] = str(work.folder / "prefect")  # before it is imported
os.environ["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "120"
os.environ["PREFECT_LOGGING_LEVEL"] = "ERROR"

from prefect import flow, task  # noqa: E402
from prefect.cache_policies import INPUTS  # noqa: E402
from prefect.task_runners import ThreadPoolTaskRunner  # noqa: E402


@task(persist_result=True, cache_policy=INPUTS)
def image(origin: str, version: str, folder: str, number: int) -> str:
    return make_image(origin, version, folder, number)


@flow(task_runner=ThreadPoolTaskRunner(max_workers=_THREADS))
def images() -> None:
    image.map(work.origin, work.version, str(work.folder), list(range(work.images))).result()


if __name__ == "__main__":
    images()
