"""The asset checks on a prompt set's images, and the Dagster objects for them.

To add a check, write a function from ``CheckInput`` to ``Verdict`` and give it a row in ``CHECKS``
at the end of this file: its name, the sentence that holds when it passes, and the remedy.

Checks are evaluated in the step that makes the images: a step of their own would be skipped where
one partition fails. All but ``COMPLETE`` are evaluated once a run and not for each partition: an
evaluation costs Dagster 30 ms of CPU, and ten of them more than an image.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Generic, TypeVar

import dagster as dg

from flux_pipeline.defs.data_versions import Target, find_targets
from flux_pipeline.defs.metadata import Metadata
from flux_pipeline.defs.run_summary import NOT_STORED, Outcome, RunFindings, missing_images
from flux_pipeline.errors import FluxPipelineError, ImageError, StoreError
from flux_pipeline.ledger.base import Budget
from flux_pipeline.lineage.record import ImageRecord
from flux_pipeline.produce.budgets import NAMES, usd
from flux_pipeline.produce.report import PartitionReport, Stop, Tally
from flux_pipeline.prompts import PromptSet
from flux_pipeline.store.base import Store
from flux_pipeline.text import count_noun

Input = TypeVar("Input")
COMPLETE = "images_are_complete"
"""The check that is evaluated for each partition, where there are not too many."""
CURRENT = "images_follow_their_prompts"
"""The check that needs no images of this run."""
_MOST_SHOWN = 3
"""Findings that the UI shows without a click."""
MOST_PARTITIONS = 1_000
"""With more, no check is partitioned: it would cost a run more than half a minute of CPU."""
MOST_NAMED = 20
"""Findings that one evaluation names."""
_NEAR = 0.8
"""The part of a budget from which on the check warns."""
_BUDGETS = (Stop.RUN_BUDGET, Stop.MONTH_BUDGET, Stop.DAY_BUDGET)


@dataclass(frozen=True, slots=True)
class CheckInput:
    """What the checks of one run are evaluated on."""

    prompt_set: str
    store: Store
    outcome: Outcome
    spent: Sequence[tuple[Budget, int]] = ()
    """The run's budgets, with the millionths of a USD spent of each."""
    stale: Sequence[str] = ()
    """Partitions, of all runs, whose images were made from other prompts than were read last."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of one check; it passed if nothing is wrong."""

    wrong: Mapping[str, str] = field(default_factory=dict)
    """Findings: what is wrong, by image, partition, request or budget."""
    metadata: Metadata = field(default_factory=dict)
    warn: bool = False
    """Whether the failure is a warning, and not an error."""


@dataclass(frozen=True, slots=True)
class Check(Generic[Input]):
    """One row of a table of checks, such as ``CHECKS``."""

    sentence: str
    """The check's description: it is true if the check passes."""
    remedy: str
    """The description of an evaluation that failed."""
    evaluate: Callable[[Input], Verdict]
    warns: bool = False
    """Whether its failures are always warnings."""


def build_check_specs(
    images: dg.AssetKey, partitions: dg.PartitionsDefinition[str] | None = None
) -> Sequence[dg.AssetCheckSpec]:
    """Declare the checks on one prompt set's images; with partitions, COMPLETE for each of them."""
    return [
        dg.AssetCheckSpec(
            name,
            asset=images,
            description=check.sentence,
            partitions_def=partitions if name == COMPLETE else None,
        )
        for name, check in CHECKS.items()
    ]


def is_partitioned(prompt_set: PromptSet) -> bool:
    """Whether COMPLETE is evaluated for every partition."""
    return len(prompt_set.partition_keys()) <= MOST_PARTITIONS


def split_checks(
    selected: Iterable[dg.AssetCheckKey], *, by_partition: bool
) -> tuple[Sequence[dg.AssetCheckKey], Sequence[dg.AssetCheckKey]]:
    """Split the selected checks into those evaluated for each partition and those once a run."""
    keys = sorted(selected)
    single = [key for key in keys if by_partition and key.name == COMPLETE]
    return single, [key for key in keys if key not in single]


def partition_checks(
    selected: Iterable[dg.AssetCheckKey],
    reports: Sequence[PartitionReport],
    instance: dg.DagsterInstance,
) -> Iterator[dg.AssetCheckEvaluation]:
    """Evaluate COMPLETE for finished partitions, where selected, after their images' events."""
    for check in selected:
        targets = find_targets(instance, check.asset_key, [each.partition for each in reports])
        for report in reports:
            named = dict(islice(missing_images(report), MOST_NAMED))
            verdict = completeness(report.tally, named)
            target = targets.get(report.partition)
            yield evaluation(check, CHECKS[check.name], verdict, target, report.partition)


def run_checks(
    selected: Iterable[dg.AssetCheckKey], check_input: CheckInput, target: Target | None
) -> Iterator[dg.AssetCheckEvaluation]:
    """Evaluate these checks over all partitions of the run; ``target`` is its latest event."""
    for check in selected:
        row = CHECKS[check.name]
        yield evaluation(check, row, row.evaluate(check_input), target)


def check_outputs(selected: Iterable[dg.AssetCheckKey]) -> Iterator[dg.Output[None]]:
    """Give the step's outputs for these checks, as Dagster does for an ``AssetCheckResult``.

    ``AssetCheckResult`` itself has no partition, and fails in a run that names none. Without the
    outputs every run's log would end with a warning that they did not come.
    """
    for check in selected:
        name = dg.AssetCheckSpec(check.name, asset=check.asset_key).get_python_identifier()
        yield dg.Output(None, output_name=name)


def evaluation(
    key: dg.AssetCheckKey,
    check: "Check[Any]",
    verdict: Verdict,
    target: Target | None,
    partition: str | None = None,
) -> dg.AssetCheckEvaluation:
    """The event of one evaluation; ``target`` is the materialization that it speaks of."""
    warn = verdict.warn or check.warns
    return dg.AssetCheckEvaluation(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=not verdict.wrong,
        severity=dg.AssetCheckSeverity.WARN if warn else dg.AssetCheckSeverity.ERROR,
        metadata=_metadata(verdict),
        description=check.remedy if verdict.wrong else None,
        partition=partition,
        target_materialization_data=target,
    )


def _metadata(verdict: Verdict) -> dict[str, dg.MetadataValue]:
    """The first few findings as text, since the UI shows JSON on a click only; then all of them."""
    few = [f"{name}: {reason}" for name, reason in islice(verdict.wrong.items(), _MOST_SHOWN)]
    if len(verdict.wrong) > len(few):
        few.append(f"and {len(verdict.wrong) - len(few)} more")
    examples = {"flux/examples": dg.MetadataValue.text("\n".join(few))} if few else {}
    return {
        **examples,
        **verdict.metadata,
        "flux/wrong": dg.MetadataValue.json(dict(verdict.wrong)),
    }


def complete(check_input: CheckInput) -> Verdict:
    """Whether every image asked for is stored, over all partitions."""
    verdict = completeness(check_input.outcome.tally, check_input.outcome.findings.missing)
    partitions = dg.MetadataValue.json(check_input.outcome.incomplete)
    shown = {**verdict.metadata, "flux/partitions": partitions}
    if left := check_input.outcome.waiting.get(NOT_STORED):
        shown["flux/paid_and_not_stored"] = f"{count_noun(left.requests, 'request')}: {left.reason}"
    return Verdict(verdict.wrong, shown, verdict.warn)


def completeness(tally: Tally, named: Mapping[str, str]) -> Verdict:
    """Whether as many are stored as were asked for; a warning if the others were all refused."""
    missing = tally.asked - tally.stored - tally.unchanged
    wrong = named or ({"images": "not made, and not named"} if missing else {})
    shown = {"flux/asked_images": tally.asked, "flux/missing_images": missing}
    refused_alone = not (tally.failed or tally.unsent or tally.held)
    return Verdict(wrong if missing else {}, shown, warn=refused_alone)


def found(pick: Callable[[RunFindings], Mapping[str, str]]) -> Callable[[CheckInput], Verdict]:
    """A check that passes if one dictionary of the run's findings is empty."""
    return lambda check_input: Verdict(pick(check_input.outcome.findings))


def readable(check_input: CheckInput) -> Verdict:
    """Whether a sample of the images, read back from the store, has the recorded pixels."""
    from flux_pipeline.images.allocator import give_back_freed_memory

    outcome = check_input.outcome
    sample = outcome.findings.sample
    wrong = dict(_broken(check_input.store, sample, outcome.run_id))
    give_back_freed_memory()  # those were the last pictures that the run decodes
    return Verdict(wrong, {"flux/read_images": len(sample)})


def _broken(store: Store, sample: Sequence[ImageRecord], run_id: str) -> Iterator[tuple[str, str]]:
    for record in sample:
        uri = record.uri or ""
        try:
            body = store.get(uri.removeprefix(f"{store.uri}/"))
            # What an earlier run has stored, it has decoded: the same bytes are the same pixels.
            if record.run_id == run_id or hashlib.sha256(body).hexdigest() != record.file_sha256:
                _check_pixels(body, record)
        except (StoreError, ImageError, ValueError) as error:
            yield uri, str(error)


def _check_pixels(body: bytes, record: ImageRecord) -> None:
    """Raise ImageError where these bytes do not decode whole to the recorded pixels."""
    from flux_pipeline.images.inspection import inspect_image

    width, height = record.width or 0, record.height or 0
    seen = inspect_image(body, image_format=record.format, width=width, height=height)
    if seen.image_sha256 != record.image_sha256:
        raise ImageError("holds other pixels than were recorded")


def distinct(check_input: CheckInput) -> Verdict:
    """Whether no two requests gave the same pixels."""
    identical = check_input.outcome.findings.look_alikes.identical
    same = "has the pixels of an earlier image"
    return Verdict({one: f"{same}: {other}" if other else same for one, other in identical.items()})


def different(check_input: CheckInput) -> Verdict:
    """Whether no image looks like an earlier one."""
    similar = check_input.outcome.findings.look_alikes.similar
    return Verdict({one: f"looks like {other}" for one, other in similar.items()})


def recorded(check_input: CheckInput) -> Verdict:
    """Whether lineage and store hold the same images."""
    from flux_pipeline.lineage.query import find_unrecorded

    findings = check_input.outcome.findings
    try:
        seen = find_unrecorded(
            check_input.store, check_input.prompt_set, findings.hashes, findings.look_alikes.newest
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


def within_budget(check_input: CheckInput) -> Verdict:
    """Whether no budget stopped a request; a warning if one is nearly used up."""
    waiting = check_input.outcome.waiting
    over: dict[str, str] = {
        stop.value: f"{count_noun(waiting[stop.value].requests, 'request')}:"
        f" {waiting[stop.value].reason}"
        for stop in _BUDGETS
        if stop.value in waiting
    }
    used, near = {}, {}
    for budget, micros in check_input.spent:
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


def current(check_input: CheckInput) -> Verdict:
    """Whether every partition's images were made from its prompts as they were read last."""
    wrong = dict.fromkeys(check_input.stale[:MOST_NAMED], "its prompts were edited since")
    return Verdict(wrong, {"flux/behind_partitions": len(check_input.stale)})


CHECKS: Mapping[str, Check[CheckInput]] = {
    COMPLETE: Check(
        "Every image asked for is stored. A warning where the provider refused some.",
        "Materialize the partition again: what was paid is resumed and fetched while its outputs"
        " live, and only what is missing is sent. What was refused, or failed by its own fault,"
        " stays so until its prompt is changed or `flux-pipeline retry` asks again.",
        complete,
    ),
    CURRENT: Check(
        "Every partition's images are of its prompts as they were read last. A warning names the"
        " partitions that were edited since, of all partitions and not of this run alone.",
        "Materialize these partitions of the images: only what was edited in them is paid.",
        current,
        warns=True,
    ),
    "images_are_readable": Check(
        "A sample of the images, read back from the store, decodes whole and has the same "
        "pixels as were recorded.",
        "Somebody wrote over these objects or removed them, or the store is away. `flux-pipeline"
        " verify --deep` reads all; restore them from a version or a backup.",
        readable,
    ),
    "images_have_the_asked_size_and_format": Check(
        "Every image has the size and the format that its request asked for.",
        "The images are paid and kept. Change the prompt or its seed to have them made anew.",
        found(lambda findings: findings.misfits),
    ),
    "images_are_not_blank": Check(
        "No image is all of one colour, as a provider's safety filter leaves them.",
        "Look at them; change the prompt or its seed to have them made anew.",
        found(lambda findings: findings.blank),
        warns=True,
    ),
    "images_are_unsuspicious": Check(
        "No image was kept in spite of a doubt, such as rows of one colour at its end.",
        "Look at them; change the prompt or its seed to have them made anew.",
        found(lambda findings: findings.doubted),
        warns=True,
    ),
    "images_are_distinct": Check(
        "No two requests of the run gave the same pixels.",
        "The provider gave one picture for two requests, and both were paid. Give one of them"
        " another seed, and ask the provider.",
        distinct,
    ),
    "images_look_different": Check(
        "No image of the run looks like one right before it, as far as a difference hash sees.",
        "Look at both; another seed or a clearer prompt makes them differ.",
        different,
        warns=True,
    ),
    "images_are_recorded": Check(
        "Every stored image of the run has its row in the lineage table, and its object.",
        "`flux-pipeline reindex` writes missing rows from the objects; `flux-pipeline verify` says"
        " what is lost.",
        recorded,
    ),
    "spend_is_within_budget": Check(
        "No request was kept back by a budget. A warning from four fifths of one on.",
        "Raise the budget, or wait for the next month or day (UTC), and materialize again.",
        within_budget,
    ),
    "nothing_is_held": Check(
        "No request may have been paid without anybody knowing.",
        "`flux-pipeline held` shows what is held, and ends it.",
        found(lambda findings: findings.held),
    ),
}
"""Every check by its name, in the order of the UI."""
