"""The three assets of a prompt set (prompts, images, gallery) as one step that can be subset.

One step, because each event is emitted for its own partition, and a partition that failed must not
take back the others. What that means for steps behind it stands in ``downstream``.
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import dagster as dg

from flux_pipeline.defs.checks import (
    CheckInput,
    build_check_specs,
    check_outputs,
    is_partitioned,
    partition_checks,
    run_checks,
    split_checks,
)
from flux_pipeline.defs.downstream import end_step
from flux_pipeline.defs.events import SetEvents, grouped_writes, reported_errors
from flux_pipeline.defs.io_manager import build_io_manager
from flux_pipeline.defs.keys import SetKeys
from flux_pipeline.defs.partitions import build_backfill_policy, build_partitions
from flux_pipeline.defs.run_summary import Outcome
from flux_pipeline.defs.specs import build_specs
from flux_pipeline.prompts import PromptSet
from flux_pipeline.resources import ImageProducer

Event: TypeAlias = dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckEvaluation
POOL = "prediction_api"
"""Limits how many runs ask the provider at once, where the instance sets a limit to it."""


def build_assets(prompt_set: PromptSet, followers: Sequence[PromptSet] = ()) -> dg.AssetsDefinition:
    """Build the assets of one prompt set, with their checks.

    ``followers`` are the sets that are made for its pictures. Where a run makes them too, they are
    begun picture by picture, before their own step.

    Without a RetryPolicy, on purpose: with one, an interrupt would start the step again and pay on.
    """
    by_partition, partitions = is_partitioned(prompt_set), build_partitions(prompt_set)

    @dg.multi_asset(
        name=prompt_set.name,
        specs=build_specs(prompt_set, partitions),
        check_specs=build_check_specs(
            SetKeys(prompt_set.name).images, partitions if by_partition else None
        ),
        can_subset=True,
        # Not in the signature: Dagster refuses that beside ``resource_defs``.
        required_resource_keys={"image_producer"},
        resource_defs={SetKeys(prompt_set.name).io_manager: build_io_manager(prompt_set)},
        backfill_policy=build_backfill_policy(prompt_set),
        pool=POOL,
    )
    def make(context: dg.AssetExecutionContext) -> Any:
        image_producer: ImageProducer = context.resources.image_producer
        events = SetEvents(prompt_set, context, image_producer, followers)
        outcome = Outcome(context.run.run_id)
        with reported_errors():
            yield from make_events(events, outcome)
        with grouped_writes(context.instance):
            with reported_errors():
                yield from events.gallery()
            # Last, so that what the other partitions came to is on record before the step fails.
            yield from check_outputs(events.checks)
            yield from end_step(
                context, prompt_set.name, outcome.failure(), some_made=outcome.some_made
            )

    return make


def make_events(events: SetEvents, outcome: Outcome) -> Iterator[Event]:
    """Make a set's images, and give all events of the run but the gallery's.

    ``outcome`` says what came of it.

    Raises:
        FluxPipelineError: What was finished before has its events.
    """
    prompt_set, instance = events.prompt_set, events.context.instance
    by_partition = is_partitioned(prompt_set)
    single, over_all = split_checks(events.checks, by_partition=by_partition)
    with events.reports() as groups:
        with grouped_writes(instance):
            yield from events.prompts()
        for reports in groups:
            with grouped_writes(instance):
                yield from events.images(reports, outcome)
                yield from partition_checks(single, reports, instance)
    with grouped_writes(instance):
        check_input = CheckInput(
            prompt_set.name, events.store, outcome, events.spent, events.stale_partitions()
        )
        checks = over_all or events.implied_checks()
        yield from run_checks(checks, check_input, events.target)
