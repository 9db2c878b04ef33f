"""Daft: a function over the rows of a data frame. It keeps nothing between two runs."""

import daft

from benchmarks.peers.prediction import make_image, read_work


def main() -> None:
    work = read_work()

    @daft.func
    def image(number: int) -> str:
        return make_image(work.origin, work.version, str(work.folder), number)

    rows = daft.from_pydict({"number": list(range(work.images))})
    rows.with_column("path", image(rows["number"])).collect()


if __name__ == "__main__":
    main()
