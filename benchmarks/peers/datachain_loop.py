"""DataChain: a map over a chain that is saved; the next run makes a new version of it."""

import os

from benchmarks.peers.prediction import make_image, read_work

work = read_work()
os.environ["DATACHAIN_ROOT_DIR"] = str(work.folder / "datachain")  # before it is imported

import cloudpickle  # noqa: E402
import datachain as dc  # noqa: E402

from benchmarks.peers import prediction  # noqa: E402

cloudpickle.register_pickle_by_value(prediction)  # its workers don't see PYTHONPATH


def image(number: int) -> str:
    return make_image(work.origin, work.version, str(work.folder), number)


def main() -> None:
    chain = dc.read_values(number=list(range(work.images)))
    chain.settings(parallel=4).map(path=image).save("images")


if __name__ == "__main__":
    main()
