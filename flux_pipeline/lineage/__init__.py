"""The lineage table: what is recorded of every image asked for, and how it is found again."""

from typing import TYPE_CHECKING

from flux_pipeline.lazy_names import lazy_names

if TYPE_CHECKING:
    from flux_pipeline.lineage.frame import read_lineage
    from flux_pipeline.lineage.query import (
        Snapshot,
        find_all,
        find_exact,
        find_prefix,
        find_similar,
        open_snapshot,
    )
    from flux_pipeline.lineage.record import ImageRecord, ImageStatus
    from flux_pipeline.lineage.schema import SCHEMA
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "SCHEMA": "flux_pipeline.lineage.schema",
            "ImageRecord": "flux_pipeline.lineage.record",
            "ImageStatus": "flux_pipeline.lineage.record",
            "Snapshot": "flux_pipeline.lineage.query",
            "find_all": "flux_pipeline.lineage.query",
            "find_exact": "flux_pipeline.lineage.query",
            "find_prefix": "flux_pipeline.lineage.query",
            "find_similar": "flux_pipeline.lineage.query",
            "open_snapshot": "flux_pipeline.lineage.query",
            "read_lineage": "flux_pipeline.lineage.frame",
        },
    )

__all__ = [
    "SCHEMA",
    "ImageRecord",
    "ImageStatus",
    "Snapshot",
    "find_all",
    "find_exact",
    "find_prefix",
    "find_similar",
    "open_snapshot",
    "read_lineage",
]
