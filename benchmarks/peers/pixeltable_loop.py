"""Pixeltable: a computed column of a table; rows that the table has are not inserted again."""

import os

from benchmarks.peers.prediction import read_work

work = read_work()
os.environ["PIXELTABLE_HOME"] = str(work.folder / "pixeltable")  # before it is imported

import pixeltable as pxt  # noqa: E402

from benchmarks.peers.pixeltable_image import image  # noqa: E402


def main() -> None:
    table = pxt.create_table("images", {"number": pxt.Int}, if_exists="ignore")
    made = image(table.number, work.origin, work.version, str(work.folder))
    table.add_computed_column(path=made, if_exists="ignore")
    known = {row["number"] for row in table.select(table.number).collect()}
    rows = [{"number": number} for number in range(work.images) if number not in known]
    if rows:
        table.insert(rows)


if __name__ == "__main__":
    main()
