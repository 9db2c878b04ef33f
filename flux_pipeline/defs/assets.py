"""The three assets of a prompt set - prompts, images, gallery - as one step that can be subset.

One step, because a partition that failed must not take back the others: every event is emitted
for its own partition, the step has no outputs, and a step behind it would be skipped.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dagster as dg

from flux_pipeline.defs.automation import build_conditions
from flux_pipeline.defs.checks import build_check_specs, check_results
from flux_pipeline.defs.events import SetEvents, reported_errors
from flux_pipeline.defs.keys import SetKeys
from flux_pipeline.defs.metadata import plain_text
from flux_pipeline.defs.outcome import Outcome
from flux_pipeline.defs.partitions import build_partitions, partitions_of
from flux_pipeline.prompts import PromptSet
from flux_pipeline.resources import ImageProducer

POOL = "prediction_api"
"""Limits, where an instance sets a limit to it, how many runs ask the provider at once."""
IMAGES_VERSION = "1"
"""Of the code that turns an answer into a stored image: raise it when the stored bytes change."""


def build_assets(prompt_set: PromptSet) -> dg.AssetsDefinition:
    """Build the assets of one prompt set, with their checks; no RetryPolicy, on purpose.

    With one, an interrupt would start the step again, and pay on.
    """
    keys = SetKeys(prompt_set.name)

    @dg.multi_asset(
        name=prompt_set.name,
        specs=build_specs(prompt_set),
        check_specs=build_check_specs(keys.images),
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=POOL,
    )
    def produce(context: dg.AssetExecutionContext, image_producer: ImageProducer) -> Any:
        selected = context.selected_asset_keys
        events = SetEvents(prompt_set, keys, context, image_producer, partitions_of(context))
        outcome = Outcome(context.run_id)
        with reported_errors(), ExitStack() as stack:
            reports = stack.enter_context(events.reports()) if keys.images in selected else ()
            if keys.prompts in selected:
                yield from events.prompts()
            for report in reports:
                if outcome.add(report):
                    yield events.images(report)
            stack.close()  # every lineage row is written
            yield from check_results(context, keys.images, outcome, image_producer.open_store())
            if keys.gallery in selected:
                yield events.gallery()
        outcome.raise_if_failed()

    return produce
