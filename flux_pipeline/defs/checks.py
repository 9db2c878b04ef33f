"""Checks on a prompt set's images: sentences that hold for a run, or name what breaks them.

They are declared on the asset and evaluated in its own step, because a step that failed for one
partition would skip every check behind it.
"""

from collections.abc import Iterable, Iterator, Sequence

import dagster as dg

from flux_pipeline.defs.metadata import Metadata
from flux_pipeline.defs.outcome import Outcome
from flux_pipeline.errors import ImageError, StoreError
from flux_pipeline.images.inspection import inspect_image
from flux_pipeline.lineage.record import ImageRecord
from flux_pipeline.store.base import Store

COMPLETE = "images_are_complete"
READABLE = "images_are_readable"
UNFLAGGED = "images_are_unsuspicious"
DISTINCT = "images_are_distinct"

_SENTENCES = {
    COMPLETE: "Every image asked for is stored. A warning where the provider refused some.",
    READABLE: "A sample of the images, read back from the store, decodes whole and has the same "
    "pixels as were recorded.",
    UNFLAGGED: "No image is blank or was kept in spite of a doubt.",
    DISTINCT: "No two requests gave the same pixels.",
}


def build_check_specs(images: dg.AssetKey) -> Sequence[dg.AssetCheckSpec]:
    """Declare the checks on one prompt set's images."""
    return [
        dg.AssetCheckSpec(name, asset=images, description=sentence)
        for name, sentence in _SENTENCES.items()
    ]


def check_results(
    selected: Iterable[dg.AssetCheckKey], outcome: Outcome, store: Store
) -> Iterator[dg.AssetCheckResult]:
    """Evaluate those of the checks that the run was asked for."""
    for check in sorted(selected):
        passed, metadata = _evaluate(check.name, outcome, store)
        refused_alone = check.name == COMPLETE and not outcome.failed
        warn = refused_alone or check.name in (UNFLAGGED, DISTINCT)
        yield dg.AssetCheckResult(
            asset_key=check.asset_key,
            check_name=check.name,
            passed=passed,
            severity=dg.AssetCheckSeverity.WARN if warn else dg.AssetCheckSeverity.ERROR,
            metadata=dict(metadata),
        )


def _evaluate(name: str, outcome: Outcome, store: Store) -> tuple[bool, Metadata]:
    tally = outcome.tally
    if name == COMPLETE:
        missing = tally.asked - tally.stored - tally.unchanged
        named = dg.MetadataValue.json(outcome.incomplete)
        return tally.complete, {"flux/missing_images": missing, "flux/partitions": named}
    if name == UNFLAGGED:
        return not outcome.flagged, {"flux/images": dg.MetadataValue.json(outcome.flagged)}
    if name == DISTINCT:
        return not outcome.twins, {"flux/images": dg.MetadataValue.json(outcome.twins)}
    broken = dict(_broken(store, outcome.sample))
    read = {"flux/read_images": len(outcome.sample), "flux/images": dg.MetadataValue.json(broken)}
    return not broken, read


def _broken(store: Store, sample: Sequence[ImageRecord]) -> Iterator[tuple[str, str]]:
    for record in sample:
        uri = record.uri or ""
        try:
            seen = inspect_image(
                store.get(uri.removeprefix(f"{store.uri}/")),
                image_format=record.format,
                width=record.width or 0,
                height=record.height or 0,
            )
        except (StoreError, ImageError, ValueError) as error:
            yield uri, str(error)
        else:
            if seen.image_sha256 != record.image_sha256:
                yield uri, "holds other pixels than were recorded"
