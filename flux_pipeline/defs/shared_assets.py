"""The assets over all prompt sets: the lineage table, what was spent, and the gallery of all.

They cost nothing: each is derived from what the runs have stored, and can be made again. Each event
holds a digest of what it was made of, by which ``are_current`` knows that nothing has changed.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
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
from flux_pipeline.store.base import Store

if TYPE_CHECKING:
    import pyarrow as pa

MADE_OF = "flux/made_of"
"""The metadata with the digest of what an event was made of."""
_GROUP = "shared"
_MOST_ROWS = 60
"""Rows of the table in the UI, the newest; the file holds all."""
_COLUMN_LINEAGE = dg.TableColumnLineage(
    {
        column: [dg.TableColumnDep(asset_key=LINEAGE, column_name=name) for name in sources]
        for column, sources in SPEND_SOURCES.items()
    }
)


def build_shared_assets(prompt_sets: Sequence[str]) -> dg.AssetsDefinition:
    """Build ``lineage``, ``spend`` and ``gallery`` over the prompt sets of these names.

    One step makes those of them that are asked for: what Dagster does for a step costs as much as
    an asset. One that fails does not keep the others from being made, but for what is made of it.
    """

    @dg.multi_asset(
        name="shared_assets",
        specs=[_lineage_spec(prompt_sets), _spend_spec(), _gallery_spec(prompt_sets)],
        can_subset=True,
    )
    def make(context: dg.AssetExecutionContext, image_producer: ImageProducer) -> Any:
        with reported_errors():
            store = image_producer.open_pages()
            made_of = _digest_sources(store)
        failures: dict[dg.AssetKey, Exception] = {}
        for key, make_one in _MAKERS.items():
            if key not in context.selected_asset_keys or (key == SPEND and LINEAGE in failures):
                continue
            metadata: dict[str, Any] = {MADE_OF: made_of}
            with _Noted(failures, key), reported_errors():
                metadata |= make_one(store)
            if key not in failures:
                yield dg.MaterializeResult(asset_key=key, metadata=metadata)
        if failures:
            raise _join(failures)

    return make


def are_current(instance: dg.DagsterInstance, store: Store) -> bool:
    """Whether lineage, spend and gallery were made of what the store holds now, and lie there.

    Raises StoreError.
    """
    from flux_pipeline.gallery.manifest import OVERVIEW
    from flux_pipeline.lineage.spend_report import PAGE_KEY
    from flux_pipeline.lineage.table import COMPACTED

    digest = _digest_sources(store)
    for asset, key in ((LINEAGE, COMPACTED), (SPEND, PAGE_KEY), (GALLERY, OVERVIEW)):
        event = instance.get_latest_materialization_event(asset)
        made = event.asset_materialization if event else None
        if made is None or MADE_OF not in made.metadata:
            return False
        if made.metadata[MADE_OF].value != digest or store.head(key) is None:
            return False
    return True


def _digest_sources(store: Store) -> str:
    """What the three are made of: lineage parts, the galleries' summaries, and this package."""
    from flux_pipeline.gallery.manifest import GALLERIES
    from flux_pipeline.lineage.parts import list_parts

    digest = hashlib.sha256(f"{version('flux-pipeline')}\n{store.uri}\n".encode())
    for part in list_parts(store):  # one that was written is not written again by another run
        digest.update(f"{part}\n".encode())
    for key in store.list(GALLERIES):
        if key.endswith("/summary.json"):
            found = store.head(key)
            digest.update(f"{key} {found.sha256 if found else ''}\n".encode())
    return digest.hexdigest()


def _lineage_spec(prompt_sets: Sequence[str]) -> dg.AssetSpec:
    return dg.AssetSpec(
        LINEAGE,
        deps=[SetKeys(name).images for name in prompt_sets],
        description="One row for every image that was ever asked for, the current ones, in one"
        " file.\n\nDerived from the parts that runs write, and made again from them at any time.",
        group_name=_GROUP,
        kinds={"parquet"},
        metadata={"dagster/column_schema": _described(LINEAGE_COLUMNS)},
    )


def _spend_spec() -> dg.AssetSpec:
    return dg.AssetSpec(
        SPEND,
        deps=[LINEAGE],
        description="Predictions, images, cost (USD, by estimate) and time by day, prompt set and"
        " model.\n\nA plot and tables as one page, and a CSV of the same rows.",
        group_name=_GROUP,
        kinds={"html", "csv"},
        metadata={
            "dagster/column_schema": _described(SPEND_COLUMNS),
            "dagster/column_lineage": _COLUMN_LINEAGE,
        },
    )


def _gallery_spec(prompt_sets: Sequence[str]) -> dg.AssetSpec:
    return dg.AssetSpec(
        GALLERY,
        deps=[SetKeys(name).gallery for name in prompt_sets],
        description="Every image of every prompt set on one page, from the pages of their own"
        " galleries.",
        group_name=_GROUP,
        kinds={"html"},
    )


def _make_lineage(store: Store) -> Mapping[str, Any]:
    from flux_pipeline.lineage.table import compact

    done = compact(store)
    return {
        "dagster/uri": done.uri,
        "dagster/row_count": done.rows,
        "flux/read_parts": done.parts_read,
    }


def _make_spend(store: Store) -> Mapping[str, Any]:
    from flux_pipeline.lineage.query import is_emulated, open_snapshot
    from flux_pipeline.lineage.spend import group_spending, spending
    from flux_pipeline.lineage.spend_report import PAGE_KEY, write_spending

    snapshot = open_snapshot(store)
    table, emulated = spending(snapshot), is_emulated(snapshot)
    stored = write_spending(store, table, now=datetime.now(UTC), emulated=emulated)
    return {
        "dagster/uri": stored.uri,
        "dagster/row_count": len(table),
        "dagster/column_lineage": _COLUMN_LINEAGE,
        "flux/page_uri": f"{store.uri}/{PAGE_KEY}",
        **({"flux/provider": EMULATED} if emulated else {}),
        **_sums(table),
        **_plot(table),
        "flux/by_day": dg.MetadataValue.md(_markdown(table.slice(max(len(table) - _MOST_ROWS, 0)))),
        "flux/by_prompt_set": dg.MetadataValue.md(_markdown(group_spending(table, "set"))),
    }


def _make_gallery(store: Store) -> Mapping[str, Any]:
    from flux_pipeline.gallery.build import build_overview

    built = build_overview(store, now=datetime.now(UTC))
    return {
        "flux/page_uri": built.uri,  # the UI's overview leaves dagster/uri out
        "dagster/uri": built.uri,
        "dagster/row_count": built.stored,
        "dagster/size_bytes": built.size,
        "flux/missing_images": built.missing,
        "flux/prompt_sets": built.sets,
    }


_MAKERS: Mapping[dg.AssetKey, Callable[[Store], Mapping[str, Any]]] = {
    LINEAGE: _make_lineage,
    SPEND: _make_spend,
    GALLERY: _make_gallery,
}
"""In the order in which they are made."""


class _Noted:
    """A block whose error is noted, whatever it is, so that what comes after it is made.

    An interrupt, which is no ``Exception``, comes through.
    """

    def __init__(self, failures: dict[dg.AssetKey, Exception], key: dg.AssetKey) -> None:
        self._failures, self._key = failures, key

    def __enter__(self) -> None:
        """Nothing is opened."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        """Note the error."""
        if not isinstance(error, Exception):
            return False
        self._failures[self._key] = error
        return True


def _join(failures: Mapping[dg.AssetKey, Exception]) -> Exception:
    """The only one as it is; several as one failure, each with its asset's name."""
    first, *others = failures.values()
    if not others:
        return first
    reasons = [
        f"{key.to_user_string()}: {(error.description if isinstance(error, dg.Failure) else error)}"
        for key, error in failures.items()
    ]
    joined = dg.Failure(description="\n".join(reasons), allow_retries=False)
    joined.__cause__ = ExceptionGroup("several assets failed", [first, *others])
    return joined


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
    from flux_pipeline.lineage.spend_plot import spend_svg

    if not (picture := spend_svg(table, alone=True)):
        return {}
    data = base64.b64encode(picture.encode()).decode()
    return {"flux/plot": dg.MetadataValue.md(f"![USD a day](data:image/svg+xml;base64,{data})")}


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
