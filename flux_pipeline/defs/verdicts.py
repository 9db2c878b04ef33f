"""What each check on a prompt set's images looks at, and what it makes of it.

Pure but for what is read back from the store. What is wrong is named by image, partition, request
or budget; of many the first.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import dagster as dg

from flux_pipeline.defs.findings import Findings
from flux_pipeline.defs.metadata import Metadata
from flux_pipeline.defs.outcome import Outcome
from flux_pipeline.errors import FluxPipelineError, ImageError, StoreError
from flux_pipeline.images.inspection import inspect_image
from flux_pipeline.ledger.base import Budget
from flux_pipeline.lineage.query import find_unrecorded
from flux_pipeline.lineage.record import ImageRecord
from flux_pipeline.produce.budgets import NAMES, usd
from flux_pipeline.produce.report import Stop, Tally
from flux_pipeline.store.base import Store
from flux_pipeline.text import count_noun

MOST_NAMED = 20
_NEAR = 0.8
"""Of a budget, from which on it warns."""
_BUDGETS = (Stop.RUN_BUDGET, Stop.MONTH_BUDGET, Stop.DAY_BUDGET)


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that the checks of one run go by."""

    prompt_set: str
    store: Store
    outcome: Outcome
    spent: Sequence[tuple[Budget, int]] = ()
    """The run's budgets, and the millionths of a USD that count against each."""
    behind: Sequence[str] = ()
    """Partitions whose images are not of their prompts, over all runs."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one check came to."""

    wrong: Mapping[str, str] = field(default_factory=dict)
    """What is wrong, by image, partition, request or budget; passed where there is none."""
    shown: Metadata = field(default_factory=dict)
    warn: bool = False
    """Where the failure is of the milder kind."""


def complete(evidence: Evidence) -> Verdict:
    """Whether every image asked for is stored, over all partitions."""
    verdict = completeness(evidence.outcome.tally, evidence.outcome.findings.missing)
    partitions = dg.MetadataValue.json(evidence.outcome.incomplete)
    return Verdict(verdict.wrong, {**verdict.shown, "flux/partitions": partitions}, verdict.warn)


def completeness(tally: Tally, named: Mapping[str, str]) -> Verdict:
    """Whether as many are stored as were asked for; milder where the provider refused the rest."""
    missing = tally.asked - tally.stored - tally.unchanged
    wrong = named or ({"images": "not made, and not named"} if missing else {})
    shown = {"flux/asked_images": tally.asked, "flux/missing_images": missing}
    refused_alone = not tally.failed and not tally.held
    return Verdict(wrong if missing else {}, shown, warn=refused_alone)


def found(pick: Callable[[Findings], Mapping[str, str]]) -> Callable[[Evidence], Verdict]:
    """A check of what was noticed while the images came."""
    return lambda evidence: Verdict(pick(evidence.outcome.findings))


def readable(evidence: Evidence) -> Verdict:
    """Whether a sample, read back from the store, is what was recorded."""
    sample = evidence.outcome.findings.sample
    return Verdict(dict(_broken(evidence.store, sample)), {"flux/read_images": len(sample)})


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


def distinct(evidence: Evidence) -> Verdict:
    """Whether no two requests gave the same pixels."""
    twins = evidence.outcome.findings.likeness.twins
    same = "has the pixels of an earlier image"
    return Verdict({one: f"{same}: {other}" if other else same for one, other in twins.items()})


def different(evidence: Evidence) -> Verdict:
    """Whether no image looks like one before it."""
    similar = evidence.outcome.findings.likeness.similar
    return Verdict({one: f"looks like {other}" for one, other in similar.items()})


def recorded(evidence: Evidence) -> Verdict:
    """Whether lineage and store hold the same images."""
    findings = evidence.outcome.findings
    try:
        seen = find_unrecorded(
            evidence.store, evidence.prompt_set, findings.hashes, findings.likeness.newest
        )
    except FluxPipelineError as error:
        return Verdict({"lineage": str(error)}, {"flux/images": len(findings.hashes)})
    wrong = dict.fromkeys(seen.unrecorded, "is stored and has no row")
    wrong |= dict.fromkeys(seen.lost, "has a row and is not in the store")
    if seen.rows > len(seen.unrecorded):
        wrong["and others"] = f"{seen.rows - len(seen.unrecorded)} stored images have no row"
    shown = {
        "flux/unrecorded_images": seen.rows,
        "flux/lost_images": len(seen.lost),
        "flux/images": len(findings.hashes),
    }
    return Verdict(dict(list(wrong.items())[:MOST_NAMED]), shown)


def within_budget(evidence: Evidence) -> Verdict:
    """Whether no budget kept a request back, or is nearly reached."""
    waiting = evidence.outcome.waiting
    over: dict[str, str] = {
        stop.value: f"{count_noun(waiting[stop.value].requests, 'request')}:"
        f" {waiting[stop.value].reason}"
        for stop in _BUDGETS
        if stop.value in waiting
    }
    used, near = {}, {}
    for budget, micros in evidence.spent:
        limit = budget.limit_micros
        if limit is None:
            continue
        name = NAMES.get(budget.scope.partition(":")[0], budget.scope)
        used[name] = {"spent_usd": micros / 1e6, "limit_usd": limit / 1e6}
        if micros > limit:
            over[name] = f"{usd(micros)} of {usd(limit)} USD are spent"
        elif micros >= _NEAR * limit:
            near[name] = f"{usd(micros)} of {usd(limit)} USD are spent"
    return Verdict(over or near, {"flux/budgets": dg.MetadataValue.json(used)}, warn=not over)


def current(evidence: Evidence) -> Verdict:
    """Whether every partition's images are of its prompts as they were read last."""
    wrong = dict.fromkeys(evidence.behind[:MOST_NAMED], "its prompts were edited since")
    return Verdict(wrong, {"flux/behind_partitions": len(evidence.behind)})
