"""The assets over all prompt sets: the lineage table, what was spent, and the gallery of all.

They cost nothing: each is derived from what the runs have stored, and can be made again.
"""

import base64
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from flux_pipeline.defs.events import reported_errors
from flux_pipeline.defs.keys import GALLERY, LINEAGE, SPEND, SetKeys
from flux_pipeline.lineage.columns import (
    LINEAGE_COLUMNS,
    SPEND_COLUMNS,
    SPEND_SOURCES,
    Column,
)
from flux_pipeline.lineage.record import EMULATED
from flux_pipeline.resources import ImageProducer

if TYPE_CHECKING:
    import pyarrow as pa

_GROUP = "shared"
_MOST_ROWS = 60
"""Rows of the table in the UI, the newest; the file holds all."""
_COLUMN_LINEAGE = dg.TableColumnLineage(
    {
        column: [dg.TableColumnDep(asset_key=LINEAGE, column_name=name) for name in sources]
        for column, sources in SPEND_SOURCES.items()
    }
)


def build_shared_assets(prompt_sets: Sequence[str]) -> Sequence[dg.AssetsDefinition]:
    """Build ``lineage``, ``spend`` and ``gallery`` over the prompt sets of these names."""
    return [_build_lineage(prompt_sets), _build_spend(), _build_gallery(prompt_sets)]


def _build_lineage(prompt_sets: Sequence[str]) -> dg.AssetsDefinition:
    @dg.asset(
        key=LINEAGE,
        deps=[SetKeys(name).images for name in prompt_sets],
        group_name=_GROUP,
        kinds={"parquet"},
        metadata={"dagster/column_schema": _described(LINEAGE_COLUMNS)},
    )
    def lineage(image_producer: ImageProducer) -> dg.MaterializeResult[Any]:
        """One row for every image that was ever asked for, the current ones, in one file.

        Derived from the parts that runs write, and made again from them at any time.
        """
        from flux_pipeline.lineage.table import compact

        with reported_errors():
            done = compact(image_producer.open_pages())
        return dg.MaterializeResult(
            metadata={
                "dagster/uri": done.uri,
                "dagster/row_count": done.rows,
                "flux/read_parts": done.parts_read,
            }
        )

    return lineage


def _build_spend() -> dg.AssetsDefinition:
    @dg.asset(
        key=SPEND,
        deps=[LINEAGE],
        group_name=_GROUP,
        kinds={"matplotlib", "csv"},
        metadata={
            "dagster/column_schema": _described(SPEND_COLUMNS),
            "dagster/column_lineage": _COLUMN_LINEAGE,
        },
    )
    def spend(image_producer: ImageProducer) -> dg.MaterializeResult[Any]:
        """Predictions, images, cost (USD, by estimate) and time by day, prompt set and model.

        A plot and tables as one page, and a CSV of the same rows.
        """
        from flux_pipeline.lineage.query import is_emulated, open_snapshot
        from flux_pipeline.lineage.spend import group_spending, spending
        from flux_pipeline.lineage.spend_report import PAGE_KEY, write_spending

        with reported_errors():
            store = image_producer.open_pages()
            snapshot = open_snapshot(store)
            table, emulated = spending(snapshot), is_emulated(snapshot)
            stored = write_spending(store, table, now=datetime.now(UTC), emulated=emulated)
        return dg.MaterializeResult(
            metadata={
                "dagster/uri": stored.uri,
                "dagster/row_count": len(table),
                "dagster/column_lineage": _COLUMN_LINEAGE,
                "flux/page_uri": f"{store.uri}/{PAGE_KEY}",
                **({"flux/provider": EMULATED} if emulated else {}),
                **_sums(table),
                **_plot(table),
                "flux/by_day": dg.MetadataValue.md(
                    _markdown(table.slice(max(len(table) - _MOST_ROWS, 0)))
                ),
                "flux/by_prompt_set": dg.MetadataValue.md(_markdown(group_spending(table, "set"))),
            }
        )

    return spend


def _build_gallery(prompt_sets: Sequence[str]) -> dg.AssetsDefinition:
    @dg.asset(
        key=GALLERY,
        deps=[SetKeys(name).gallery for name in prompt_sets],
        group_name=_GROUP,
        kinds={"html"},
    )
    def gallery(image_producer: ImageProducer) -> dg.MaterializeResult[Any]:
        """Every image of every prompt set on one page, from the pages of their own galleries."""
        from flux_pipeline.gallery.build import build_overview

        with reported_errors():
            built = build_overview(image_producer.open_pages(), now=datetime.now(UTC))
        return dg.MaterializeResult(
            metadata={
                "flux/page_uri": built.uri,  # the UI's overview leaves dagster/uri out
                "dagster/uri": built.uri,
                "dagster/row_count": built.stored,
                "dagster/size_bytes": built.size,
                "flux/missing_images": built.missing,
                "flux/prompt_sets": built.sets,
            }
        )

    return gallery


def _sums(table: "pa.Table") -> dict[str, int | float]:
    from flux_pipeline.lineage.spend import total

    sums = total(table)
    return {
        "flux/predictions": sums["predictions"],
        "flux/stored_images": sums["images"],
        "flux/refused_images": sums["refused"],
        "flux/failed_images": sums["failed"],
        "flux/cost_usd": round(float(sums["usd"]), 6),
        "flux/predict_seconds": round(float(sums["seconds"]), 3),
    }


def _plot(table: "pa.Table") -> dict[str, dg.MetadataValue]:
    """Metadata with USD a day as a picture of some 15 KB; nothing where nothing was spent."""
    from flux_pipeline.lineage.spend_report import spend_png

    if not (picture := spend_png(table)):
        return {}
    data = base64.b64encode(picture).decode()
    return {"flux/plot": dg.MetadataValue.md(f"![USD a day](data:image/png;base64,{data})")}


def _markdown(table: "pa.Table") -> str:
    """A Markdown table. Cells are names, dates and numbers, so none has to be escaped."""
    cells = [
        [f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in row.values()]
        for row in table.to_pylist()
    ]
    rows = [table.column_names, ["---"] * table.num_columns, *cells]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _described(columns: Iterable[Column]) -> dg.TableSchema:
    return dg.TableSchema(
        [
            dg.TableColumn(
                each.name, each.kind, each.description + (f" ({each.unit})" if each.unit else "")
            )
            for each in columns
        ]
    )
