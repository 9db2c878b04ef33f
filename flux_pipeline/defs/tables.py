"""The assets over all prompt sets: the compacted lineage table, and what was spent."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from flux_pipeline.defs.events import reported_errors
from flux_pipeline.defs.keys import LINEAGE, SPEND, SetKeys
from flux_pipeline.lineage.compact import compact
from flux_pipeline.lineage.schema import SCHEMA
from flux_pipeline.lineage.snapshot import open_snapshot
from flux_pipeline.lineage.spending import spending
from flux_pipeline.resources import ImageProducer

if TYPE_CHECKING:  # it takes longer to import than Dagster itself; pyarrow does when it needs it
    import pandas as pd

_GROUP = "books"
_SPEND_KEY = "spend/by-day.csv"
_MOST_ROWS = 60
"""Rows of the table in the UI, the newest; the file holds all."""


def build_tables(prompt_sets: Sequence[str]) -> Sequence[dg.AssetsDefinition]:
    """Build ``lineage`` and ``spend`` over the prompt sets of these names."""

    @dg.asset(
        key=LINEAGE,
        deps=[SetKeys(name).images for name in prompt_sets],
        group_name=_GROUP,
        kinds={"parquet"},
        metadata={"dagster/column_schema": _column_schema()},
    )
    def lineage(image_producer: ImageProducer) -> dg.MaterializeResult[Any]:
        """One row for every image that was ever asked for, the current ones, in one file.

        Derived from the parts that runs write, and made again from them at any time.
        """
        with reported_errors():
            done = compact(image_producer.open_store())
        return dg.MaterializeResult(
            metadata={
                "dagster/uri": done.uri,
                "dagster/row_count": done.rows,
                "flux/read_parts": done.parts_read,
            }
        )

    @dg.asset(key=SPEND, deps=[LINEAGE], group_name=_GROUP, kinds={"pandas", "csv"})
    def spend(image_producer: ImageProducer) -> dg.MaterializeResult[Any]:
        """Images and cost (USD, by estimate) by day, prompt set and model."""
        with reported_errors():
            store = image_producer.open_store()
            table = spending(open_snapshot(store)).to_pandas().round({"usd": 6})
            body = table.to_csv(index=False).encode()
            stored = store.put(_SPEND_KEY, body, content_type="text/csv")
        return dg.MaterializeResult(
            metadata={
                "dagster/uri": stored.uri,
                "dagster/row_count": len(table),
                "flux/stored_images": int(table["stored"].sum()),
                "flux/cost_usd": round(float(table["usd"].sum()), 6),
                "flux/by_day": dg.MetadataValue.md(_markdown(table.tail(_MOST_ROWS))),
                "flux/by_prompt_set": dg.MetadataValue.md(_markdown(_by_prompt_set(table))),
            }
        )

    return [lineage, spend]


def _by_prompt_set(table: "pd.DataFrame") -> "pd.DataFrame":
    sums = ["stored", "refused", "failed", "usd"]
    return table.groupby("prompt_set", as_index=False)[sums].sum()


def _markdown(table: "pd.DataFrame") -> str:
    """A Markdown table; a cell holds names, dates and numbers, and nothing that Markdown reads."""
    cells = [
        [f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in row]
        for row in table.itertuples(index=False)
    ]
    rows = [list(table.columns), ["---"] * len(table.columns), *cells]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _column_schema() -> dg.TableSchema:
    columns = []
    for field in SCHEMA:
        about = {key.decode(): text.decode() for key, text in (field.metadata or {}).items()}
        unit = f" ({about['unit']})" if "unit" in about else ""
        description = f"{about.get('description', '')}{unit}"
        columns.append(dg.TableColumn(field.name, str(field.type), description))
    return dg.TableSchema(columns)
