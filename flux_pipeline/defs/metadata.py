"""Descriptions and metadata of the events that the UI shows, under ``dagster/`` and ``flux/`` keys.

Text from prompts is never Markdown, and characters that hide or turn text are escaped.
"""

import base64
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import dagster as dg

from flux_pipeline.defs.partitions import Content
from flux_pipeline.images.formats import thumbnail_type
from flux_pipeline.lineage.record import EMULATED, ContentCredentials, ImageRecord, ImageStatus
from flux_pipeline.produce.report import PartitionReport
from flux_pipeline.text import count_noun, safe_text, show_usd

Metadata = Mapping[str, Any]
PREVIEW = "flux/preview"
"""The key of a partition's pictures."""
PREVIEWS = "flux/previews"
"""The key of those that take a click to be seen."""
_MOST_REASONS = 5
_MARKDOWN_LIMIT = 1_000
"""Characters from which on the UI hides Markdown behind a link."""
_MOST_ROWS = 20
"""Images of the table in an event; the lineage table has all."""
_THEIRS = frozenset({ContentCredentials.KEPT, ContentCredentials.INVALID})
"""Of files without our label, and of those that came broken."""
_COLUMNS = dg.TableSchema(
    # Few: the UI cuts off what does not fit beside each other.
    [
        dg.TableColumn("prompt_name", "string"),
        dg.TableColumn("take", "int"),
        dg.TableColumn("seed", "string", "Text: it may be greater than a browser's numbers."),
        dg.TableColumn("size", "string", "px"),
        dg.TableColumn("status", "string"),
    ]
)


def prompts_metadata(content: Content) -> Metadata:
    """Metadata of a partition's prompts: the first prompt, the counts, the estimated USD."""
    return {
        "flux/prompt": safe_text(content.prompt),
        "flux/images": content.images,
        "flux/estimate_usd": round(content.usd, 6),
        "dagster/row_count": content.requests,
    }


def images_metadata(report: PartitionReport) -> Metadata:
    """Metadata of a partition's images: previews, reasons, cost, table, address, counts.

    The UI shows them in this order. A count is there even if it is 0, so that its plot has a point.
    """
    tally = report.tally
    pictures = [(r.request.source.prompt_name, r.thumbnail) for r in report.results if r.thumbnail]
    shown: dict[str, Any] = dict(previews(pictures))
    if report.results:
        shown["flux/prompt"] = safe_text(str(report.results[0].request.input.get("prompt", "")))
    if reasons := reasons_of(report):
        shown["flux/reasons"] = dg.MetadataValue.json(reasons)
    if notices := [safe_text(notice) for result in report.results for notice in result.notices]:
        shown["flux/notices"] = dg.MetadataValue.json(notices[:_MOST_REASONS])
    if theirs := Counter(r.credentials for r in report.records if r.credentials in _THEIRS):
        shown["flux/provider_credentials"] = dg.MetadataValue.json(dict(theirs))
    if provider := _provider_of(report):
        shown["flux/provider"] = provider
    shown |= {
        "flux/cost_usd": round(tally.usd, 6),
        "flux/run_seconds": round(report.seconds, 3),
    }
    if rows := [_row(record) for record in islice(report.records, _MOST_ROWS)]:
        shown["flux/image_table"] = dg.MetadataValue.table(rows, schema=_COLUMNS)
    if uri := next((r.uri for r in report.records if r.status is ImageStatus.STORED), None):
        shown["dagster/uri"] = uri
    shown |= {
        "dagster/row_count": tally.stored + tally.unchanged,
        "flux/asked_images": tally.asked,
        "flux/stored_images": tally.stored,
        "flux/unchanged_images": tally.unchanged,
        "flux/refused_images": tally.refused,
        "flux/failed_images": tally.failed,
        "flux/unsent_images": tally.unsent,
        "flux/held_images": tally.held,
        "flux/created_predictions": tally.created,
    }
    if report.lineage_uri:
        shown["flux/lineage_uri"] = report.lineage_uri
    return shown


def prompts_line(partition: str, content: Content, *, emulated: bool = False) -> str:
    """The description of a partition's prompts: requests, images and estimated USD."""
    return (
        f"{partition}: {count_noun(content.requests, 'request')} for"
        f" {count_noun(content.images, 'image')},"
        f" {show_usd(content.usd, emulated=emulated)} by estimate"
    )


def images_line(report: PartitionReport) -> str:
    """The description of a partition's images: how many of them, USD and seconds."""
    tally = report.tally
    rest = {
        "unchanged": tally.unchanged,
        "refused": tally.refused,
        "failed": tally.failed,
        "not sent": tally.unsent,
        "held": tally.held,
    }
    parts = [
        f"{tally.stored + tally.unchanged} of {count_noun(tally.asked, 'image')}",
        *(f"{number} {name}" for name, number in rest.items() if number),
        show_usd(tally.usd, emulated=is_emulated(report)),
        f"{report.seconds:.1f} s",
    ]
    return f"{report.partition}: {', '.join(parts)}"


def is_emulated(report: PartitionReport) -> bool:
    """Whether the images are the emulator's, and what they cost is no money."""
    return _provider_of(report) == EMULATED


def _provider_of(report: PartitionReport) -> str:
    """The provider of the first image that names one; empty where none does."""
    return next((record.provider for record in report.records if record.provider), "")


def reasons_of(report: PartitionReport) -> dict[str, int]:
    """The first few kinds of reasons why images are missing, with the number of images for each."""
    from flux_pipeline.produce.reasons import Reasons

    reasons = Reasons()
    for result in report.results:
        reasons.add(result)
    counted = list(reasons.counts().items())[:_MOST_REASONS]
    return {safe_text(reason): images for reason, images in counted}


def _row(record: ImageRecord) -> dg.TableRecord:
    return dg.TableRecord(
        {
            "prompt_name": record.prompt_name,
            "take": record.take,
            "seed": "" if record.seed is None else str(record.seed),
            "size": f"{record.width}\N{MULTIPLICATION SIGN}{record.height}" if record.width else "",
            "status": record.status.value,
        }
    )


def previews(pictures: Sequence[tuple[str, bytes]]) -> Iterator[tuple[str, dg.MetadataValue]]:
    """Thumbnails (name, picture) as Markdown: all in one, where the UI shows so much at once.

    Else a miniature of the first that does, and all of them under a key that the UI shows on click.
    """
    everything = "\n".join(_picture(*each) for each in pictures)
    if len(everything) < _MARKDOWN_LIMIT:
        if everything:
            yield PREVIEW, dg.MetadataValue.md(everything)
        return
    from flux_pipeline.images.inspection import miniature

    name, first = pictures[0]
    room = (_MARKDOWN_LIMIT - 1 - len(_picture(name, b""))) // 4 * 3
    if small := miniature(first, room):
        yield PREVIEW, dg.MetadataValue.md(_picture(name, small))
    yield PREVIEWS, dg.MetadataValue.md(everything)


def _picture(name: str, picture: bytes) -> str:
    # A prompt's name is made of a-z, 0-9, hyphen and underscore: nothing that Markdown reads.
    return f"![{name}](data:{thumbnail_type(picture)};base64,{base64.b64encode(picture).decode()})"
