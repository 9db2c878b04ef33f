"""What an event shows in the UI: Dagster's own keys first, then ours as ``flux/<noun_unit>``.

Text from prompts is never given as Markdown, and characters that hide or turn text are escaped.
"""

import base64
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from flux_pipeline.defs.requests import Content
from flux_pipeline.lineage.record import ImageStatus
from flux_pipeline.models import redact
from flux_pipeline.produce.report import PartitionReport

Metadata = Mapping[str, Any]
PREVIEW = "flux/preview"
_MOST_CHARACTERS = 1_000
_MOST_REASONS = 5


def prompts_metadata(content: Content) -> Metadata:
    """What a partition asks for."""
    return {
        "dagster/row_count": content.requests,
        "flux/images": content.images,
        "flux/estimate_usd": round(content.usd, 6),
        "flux/prompt": plain_text(content.prompt),
    }


def images_metadata(report: PartitionReport) -> Metadata:
    """What became of a partition: where it lies, what was counted and spent, how it looks."""
    tally = report.tally
    shown: dict[str, Any] = {
        "dagster/row_count": tally.stored + tally.unchanged,
        "flux/asked_images": tally.asked,
        "flux/stored_images": tally.stored,
        "flux/unchanged_images": tally.unchanged,
        "flux/refused_images": tally.refused,
        "flux/failed_images": tally.failed,
        "flux/held_images": tally.held,
        "flux/created_predictions": tally.created,
        "flux/cost_usd": round(tally.usd, 6),
        "flux/run_seconds": round(report.seconds, 3),
    }
    if uri := next((r.uri for r in report.records if r.status is ImageStatus.STORED), None):
        shown["dagster/uri"] = uri
    if report.lineage_uri:
        shown["flux/lineage_uri"] = report.lineage_uri
    if report.results:
        shown["flux/prompt"] = plain_text(str(report.results[0].request.input.get("prompt", "")))
    if preview := "\n".join(_pictures(report)):
        shown[PREVIEW] = dg.MetadataValue.md(preview)
    if reasons := reasons_of(report):
        shown["flux/reasons"] = dg.MetadataValue.json(reasons)
    if notices := [plain_text(notice) for result in report.results for notice in result.notices]:
        shown["flux/notices"] = dg.MetadataValue.json(notices[:_MOST_REASONS])
    return shown


def reasons_of(report: PartitionReport) -> dict[str, int]:
    """Why images are missing, and how many for each reason; the first few."""
    reasons: dict[str, int] = {}
    for result in report.results:
        if result.reason:
            reason = plain_text(result.reason)
            reasons[reason] = reasons.get(reason, 0) + result.request.outputs
    return dict(list(reasons.items())[:_MOST_REASONS])


def plain_text(text: str) -> str:
    """Text as it may be shown to others: no secret, nothing invisible, not endless."""
    visible = "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode()
        for char in redact(text[: 4 * _MOST_CHARACTERS])
    )
    return visible if len(visible) <= _MOST_CHARACTERS else visible[:_MOST_CHARACTERS] + "…"


def _pictures(report: PartitionReport) -> Iterator[str]:
    # A prompt's name is made of a-z, 0-9, hyphen and underscore: nothing that Markdown reads.
    for result in report.results:
        if result.thumbnail:
            data = base64.b64encode(result.thumbnail).decode()
            yield f"![{result.request.source.prompt_name}](data:image/webp;base64,{data})"
