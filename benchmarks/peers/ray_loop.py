"""Ray Data: a function over the rows of a data set. It keeps nothing between two runs."""

import os
from typing import Any

os.environ["RAY_DATA_DISABLE_PROGRESS_BARS"] = "1"

import ray

from benchmarks.peers.prediction import make_image, read_work

_CPU = 0.25
"""Of a core, for one call that waits: each worker is a process of 200 MB."""


def main() -> None:
    work = read_work()
    ray.init(include_dashboard=False, log_to_driver=False)

    def image(row: dict[str, Any]) -> dict[str, Any]:
        number = int(row["id"])
        return {"path": make_image(work.origin, work.version, str(work.folder), number)}

    rows = ray.data.range(work.images, override_num_blocks=min(work.images, 64))
    rows.map(image, num_cpus=_CPU).materialize()
    ray.shutdown()


if __name__ == "__main__":
    main()
