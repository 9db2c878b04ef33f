"""Checks on a prompt set's images: sentences that hold for a run, or name what breaks them.

They are declared on the asset and evaluated in its own step, because a step that failed for one
partition would skip every check behind it. One of them is evaluated for every partition, which
costs Dagster 30 ms of CPU each time; ten would cost more than the images do, so that the others are
evaluated once a run.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import dagster as dg

from flux_pipeline.defs import verdicts
from flux_pipeline.defs.findings import missing_images
from flux_pipeline.defs.provenance import Target, find_target
from flux_pipeline.defs.verdicts import MOST_NAMED, Evidence, Verdict
from flux_pipeline.produce.report import PartitionReport
from flux_pipeline.prompts import PromptSet

COMPLETE = "images_are_complete"
CURRENT = "images_follow_their_prompts"
_MOST_SHOWN = 3
MOST_PARTITIONS = 1_000
"""Above, no check is partitioned: it would cost a run more than half a minute of CPU."""


@dataclass(frozen=True, slots=True)
class _Check:
    sentence: str
    remedy: str
    evaluate: Callable[[Evidence], Verdict]
    warns: bool = False


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
    """Those of the checks that are evaluated a partition, and those that are once a run."""
    keys = sorted(selected)
    single = [key for key in keys if by_partition and key.name == COMPLETE]
    return single, [key for key in keys if key not in single]


def partition_checks(
    selected: Iterable[dg.AssetCheckKey], report: PartitionReport, instance: dg.DagsterInstance
) -> Iterator[dg.AssetCheckEvaluation]:
    """Evaluate COMPLETE for a finished partition, if selected; after the event of its images."""
    for check in selected:
        named = dict(islice(missing_images(report), MOST_NAMED))
        verdict = verdicts.completeness(report.tally, named)
        target = find_target(instance, check.asset_key, report.partition)
        yield _evaluation(check, verdict, target, report.partition)


def run_checks(
    selected: Iterable[dg.AssetCheckKey], evidence: Evidence, target: Target | None
) -> Iterator[dg.AssetCheckEvaluation]:
    """Evaluate these checks over all partitions of the run; ``target`` is its latest event."""
    for check in selected:
        yield _evaluation(check, CHECKS[check.name].evaluate(evidence), target)


def check_outputs(selected: Iterable[dg.AssetCheckKey]) -> Iterator[dg.Output[None]]:
    """Say that these checks were evaluated, as Dagster itself does for an ``AssetCheckResult``.

    That class has no partition, and fails in a run that names none. Without the outputs every run's
    log ends with some that were expected and did not come.
    """
    for check in selected:
        name = dg.AssetCheckSpec(check.name, asset=check.asset_key).get_python_identifier()
        yield dg.Output(None, output_name=name)


def _evaluation(
    check: dg.AssetCheckKey, verdict: Verdict, target: Target | None, partition: str | None = None
) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=check.asset_key,
        check_name=check.name,
        passed=not verdict.wrong,
        severity=_severity(verdict, check.name),
        metadata=_metadata(verdict),
        description=CHECKS[check.name].remedy if verdict.wrong else None,
        partition=partition,
        target_materialization_data=target,
    )


def _severity(verdict: Verdict, name: str) -> dg.AssetCheckSeverity:
    warn = verdict.warn or CHECKS[name].warns
    return dg.AssetCheckSeverity.WARN if warn else dg.AssetCheckSeverity.ERROR


def _metadata(verdict: Verdict) -> dict[str, dg.MetadataValue]:
    """The first few in words, because the UI shows JSON behind a click; then all that are named."""
    few = [f"{name}: {reason}" for name, reason in islice(verdict.wrong.items(), _MOST_SHOWN)]
    if len(verdict.wrong) > len(few):
        few.append(f"and {len(verdict.wrong) - len(few)} more")
    examples = {"flux/examples": dg.MetadataValue.text("\n".join(few))} if few else {}
    return {
        **examples,
        **verdict.shown,
        "flux/wrong": dg.MetadataValue.json(dict(verdict.wrong)),
    }


CHECKS: Mapping[str, _Check] = {
    COMPLETE: _Check(
        "Every image asked for is stored. A warning where the provider refused some.",
        "Materialize the partition again: what was paid is resumed, and only what is missing is"
        " sent. What was refused stays refused until its prompt is changed.",
        verdicts.complete,
    ),
    CURRENT: _Check(
        "Every partition's images are of its prompts as they were read last. A warning names the"
        " partitions that were edited since, of all partitions and not of this run alone.",
        "Materialize these partitions of the images: only what was edited in them is paid.",
        verdicts.current,
        warns=True,
    ),
    "images_are_readable": _Check(
        "A sample of the images, read back from the store, decodes whole and has the same "
        "pixels as were recorded.",
        "Somebody wrote over these objects or removed them, or the store is away. `flux-pipeline"
        " verify --deep` reads all; restore them from a version or a backup.",
        verdicts.readable,
    ),
    "images_have_the_asked_size_and_format": _Check(
        "Every image has the size and the format that its request asked for.",
        "The images are paid and kept. Change the prompt or its seed to have them made anew.",
        verdicts.found(lambda findings: findings.misfits),
    ),
    "images_are_not_blank": _Check(
        "No image is all of one colour, as a provider's safety filter leaves them.",
        "Look at them; change the prompt or its seed to have them made anew.",
        verdicts.found(lambda findings: findings.blank),
        warns=True,
    ),
    "images_are_unsuspicious": _Check(
        "No image was kept in spite of a doubt, such as rows of one colour at its end.",
        "Look at them; change the prompt or its seed to have them made anew.",
        verdicts.found(lambda findings: findings.doubted),
        warns=True,
    ),
    "images_are_distinct": _Check(
        "No two requests of the run gave the same pixels.",
        "The provider gave one picture for two requests, and both were paid. Give one of them"
        " another seed, and ask the provider.",
        verdicts.distinct,
    ),
    "images_look_different": _Check(
        "No image of the run looks like one right before it, as far as a difference hash sees.",
        "Look at both; another seed or a clearer prompt makes them differ.",
        verdicts.different,
        warns=True,
    ),
    "images_are_recorded": _Check(
        "Every stored image of the run has its row in the lineage table, and its object.",
        "`flux-pipeline reindex` writes missing rows from the objects; `flux-pipeline verify` says"
        " what is lost.",
        verdicts.recorded,
    ),
    "spend_is_within_budget": _Check(
        "No request was kept back by a budget. A warning from four fifths of one on.",
        "Raise the budget, or wait for the next month or day (UTC), and materialize again.",
        verdicts.within_budget,
    ),
    "nothing_is_held": _Check(
        "No request may have been paid without anybody knowing.",
        "`flux-pipeline held` shows what is held, and ends it.",
        verdicts.found(lambda findings: findings.held),
    ),
}
"""Every check by its name."""
