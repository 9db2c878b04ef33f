"""The rows of a gallery's manifest: those of its file that stay, and those that a build adds.

A gallery may have hundreds of thousands of rows, and a build changes few of them. So the file is
read one row group at a time, and of that the columns that are asked for; in memory is what changes:
which rows of the file are dropped, and what is added.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flux_pipeline.lineage.arrays import (
    array_of,
    flags_of,
    mask_of,
    numbers_of,
    rows_of,
    scalar_of,
)
from flux_pipeline.lineage.schema import SCHEMA
from flux_pipeline.lineage.table import KEY_COLUMNS, Candidates, Integers, Mask

LISTED = (
    "prompt_name",
    "partition",
    "take",
    "prompt",
    "seed",
    "model",
    "status",
    "error",
    "uri",
    "width",
    "height",
)
"""What the page searches, filters and lays out, beside the row's id and time."""
COLUMNS = tuple(dict.fromkeys((*KEY_COLUMNS, *LISTED, "image_sha256", "cost_usd", "provider")))

ROWS = pa.schema(
    [
        *(SCHEMA.field(name) for name in COLUMNS),
        pa.field("part", pa.string(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("page", pa.int32(), nullable=False),
        pa.field("pack", pa.string()),
    ]
)
_FALSE = scalar_of(False, pa.bool_())  # noqa: FBT003

Test: TypeAlias = Callable[..., Any]
"""From the values of columns, chunked arrays, to booleans or nulls, an Arrow array."""


class DamagedManifestError(Exception):
    """A column of a manifest can't be read; the manifest is to be made again."""


class Rows:
    """Current rows alone, in the order in which they came: their pages never decrease.

    Each row has a number, which it keeps when others are dropped. Every method raises
    DamagedManifestError where the file can't be read.
    """

    def __init__(self, file: pq.ParquetFile | None = None) -> None:
        self._file = file
        self._groups = range(file.num_row_groups if file else 0)
        self._added: list[pa.Table] = []
        self._kept = np.ones(file.metadata.num_rows if file else 0, np.bool_)
        self._late_packs: dict[int, str] = {}

    def __len__(self) -> int:
        return int(self._kept.sum())

    def batches(self, *names: str) -> Iterator[pa.Table]:
        """Some columns of all rows, some thousand rows at a time."""
        for start, piece in self._pieces():
            table = self._read(start, piece, names)
            kept = self._kept[start : start + len(table)]
            yield table if kept.all() else table.filter(mask_of(kept))

    def of_pages(self, pages: Collection[int]) -> Iterator[tuple[int, pa.Table]]:
        """Whole rows of each of these pages that has any, page after page."""
        wanted = array_of(sorted(pages), pa.int32())
        found = self._find(["page"], lambda values: pc.is_in(values, wanted), ROWS.names)
        pieces = (piece for _, rows in found for piece in _by_page(rows))
        for page, tables in groupby(pieces, key=itemgetter(0)):
            yield page, pa.concat_tables([table for _, table in tables])

    def add(self, rows: pa.Table) -> None:
        """Add rows, which are of ROWS and current, and of no earlier page than the last."""
        self._added.append(rows)
        self._kept = np.append(self._kept, np.ones(len(rows), np.bool_))

    def drop_parts(self, parts: Collection[str]) -> set[int]:
        """Drop the rows of these parts; return the pages that they were on."""
        gone = array_of(sorted(parts), pa.string())
        lost: set[int] = set()
        for numbers, rows in self._find(["part"], lambda part: pc.is_in(part, gone), ["page"]):
            self._kept[numbers] = False
            lost.update(_pages(rows).tolist())
        return lost

    def drop_superseded(self, added: pa.Table) -> tuple[set[int], Mask]:
        """Drop the rows that ``added`` supersedes, by the rule of ``lineage.table``.

        Returns the pages that lost a row, and for each row of ``added`` whether it is current.
        """
        # Only a row whose request is among the added can be superseded: mostly there is none.
        requests = added.column("request_sha256").unique()
        is_shared = partial(pc.is_in, value_set=requests)
        names = [*KEY_COLUMNS, "part", "page"]
        candidates, numbers, pages = Candidates(), [np.empty(0, np.int64)], [np.empty(0, np.int32)]
        for found, rows in self._find(["request_sha256"], is_shared, names):
            candidates.add(rows, _texts(rows, "part"))
            numbers.append(found)
            pages.append(_pages(rows))
        candidates.add(added, _texts(added, "part"))
        earlier, current = np.concatenate(numbers), candidates.current()
        gone = ~current[: len(earlier)]
        self._kept[earlier[gone]] = False
        return set(np.concatenate(pages)[gone].tolist()), current[len(earlier) :]

    def add_packs(self, packs: Mapping[str, str]) -> set[int]:
        """Note, by image, the packs of thumbnails that came later than their images' rows.

        Returns the pages of those rows.
        """
        images = array_of(list(packs), pa.string())
        late: set[int] = set()
        is_late: Test = lambda pack, image: pc.and_(pc.is_null(pack), pc.is_in(image, images))  # noqa: E731
        for numbers, rows in self._find(
            ["pack", "image_sha256"], is_late, ["page", "image_sha256"]
        ):
            theirs = (packs[image] for image in _texts(rows, "image_sha256"))
            self._late_packs.update(zip(numbers.tolist(), theirs, strict=True))
            late.update(_pages(rows).tolist())
        return late

    def _find(
        self, columns: Sequence[str], test: Test, names: Sequence[str]
    ) -> Iterator[tuple[Integers, pa.Table]]:
        """The rows that pass a test of some columns: their numbers, and these of their columns."""
        for start, piece in self._pieces():
            table = self._read(start, piece, columns)
            passed = flags_of(test(*table.columns).fill_null(_FALSE))
            found = np.flatnonzero(passed & self._kept[start : start + len(table)])
            if len(found):
                yield start + found, self._read(start, piece, names).take(rows_of(found))

    def _pieces(self) -> Iterator[tuple[int, int | pa.Table]]:
        """The number of the first row of each row group and of each table, and these."""
        start = 0
        for group in self._groups:
            yield start, group
            start += self._file.metadata.row_group(group).num_rows if self._file else 0
        for table in self._added:
            yield start, table
            start += len(table)

    def _read(self, start: int, piece: int | pa.Table, names: Sequence[str]) -> pa.Table:
        table = self._read_group(piece, names) if isinstance(piece, int) else piece.select(names)
        if "pack" not in names or not self._late_packs:
            return table
        packs = table.column("pack").to_pylist()
        new = [self._late_packs.get(start + place, pack) for place, pack in enumerate(packs)]
        at = table.schema.get_field_index("pack")
        return table.set_column(at, ROWS.field("pack"), array_of(new, pa.string()))

    def _read_group(self, group: int, names: Sequence[str]) -> pa.Table:
        schema = pa.schema([ROWS.field(name) for name in names])
        if self._file is None:
            return pa.Table.from_batches([], schema)
        try:
            table = self._file.read_row_group(group, columns=list(names), use_threads=False)
            return table.select(names).replace_schema_metadata(None).cast(schema)
        except (pa.ArrowException, OSError, LookupError) as error:
            raise DamagedManifestError(str(error)) from None


def _by_page(rows: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """Rows, of which there are some, divided where the page changes."""
    pages = _pages(rows)
    starts = [0, *(np.flatnonzero(pages[1:] != pages[:-1]) + 1).tolist(), len(rows)]
    for start, end in pairwise(starts):
        yield int(pages[start]), rows.slice(start, end - start)


def _pages(rows: pa.Table) -> npt.NDArray[np.int32]:
    return numbers_of(rows.column("page"), np.int32)


def _texts(rows: pa.Table, name: str) -> list[str]:
    return [str(text) for text in rows.column(name).to_pylist()]
