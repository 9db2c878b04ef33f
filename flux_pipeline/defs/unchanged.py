"""The job that goes through prompt sets of which everything is made, all of them in one step.

Their own jobs would emit the same materializations and checks, each with a run, two steps and some
thirty events more: what is planned, outputs of steps, starts and ends. That is most of what a set
costs of which nothing has to be sent.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg

from flux_pipeline.defs.assets import POOL, Event, make_events
from flux_pipeline.defs.downstream import NO_FAILURE
from flux_pipeline.defs.events import SetEvents, grouped_writes, reported_errors
from flux_pipeline.defs.run_summary import Outcome
from flux_pipeline.prompts import PromptSet
from flux_pipeline.resources import ImageProducer

CONFIRM_UNCHANGED = "confirm_unchanged"
"""The job's name."""
FAILED_SETS = "flux/failed_sets"
"""The metadata of the step's failure: by prompt set the ``reason``, and the failure's metadata."""


def build_unchanged_job(prompt_sets: Sequence[PromptSet]) -> dg.JobDefinition:
    """Build the job; a run's configuration names the sets that it takes, as ``unchanged_config``.

    Where something is missing after all, the run makes it, by the same rules as a set's own run.
    """
    known = {each.name: each for each in prompt_sets}

    @dg.op(
        config_schema={"prompt_sets": dg.Field([str], description="names of the prompt sets")},
        required_resource_keys={"image_producer"},
        out={},
        pool=POOL,
    )
    def confirm_sets(context: dg.OpExecutionContext) -> Iterator[Event]:
        """Emit the events of each set; one that fails stops no other."""
        failures: dict[str, dg.Failure] = {}
        confirmed: list[SetEvents] = []
        for name in context.op_config["prompt_sets"]:
            with _noted(failures, name):
                failure = yield from _confirm(known[name], context, confirmed)
                if failure is not None:
                    raise failure
        # After all images, so that what the sets ask for is read once for all galleries.
        yield from _galleries(confirmed, failures)
        if failures:
            raise _join(failures)

    @dg.job(
        name=CONFIRM_UNCHANGED,
        description="Materializes and checks prompt sets of which everything is made, together."
        " `flux-pipeline run` starts it.",
        executor_def=dg.in_process_executor,
    )
    def job() -> None:
        confirm_sets()

    return job


def unchanged_config(prompt_sets: Sequence[str]) -> Mapping[str, Any]:
    """The configuration of a run of the job, for these sets."""
    return {"ops": {"confirm_sets": {"config": {"prompt_sets": list(prompt_sets)}}}}


@contextmanager
def _noted(failures: dict[str, dg.Failure], prompt_set: str) -> Iterator[None]:
    """Note a failure of this set, and go on."""
    try:
        yield
    except dg.Failure as failure:
        failures[prompt_set] = failure


def _confirm(
    prompt_set: PromptSet, context: dg.OpExecutionContext, confirmed: list[SetEvents]
) -> Generator[Event, None, dg.Failure | None]:
    """Emit a set's events but the gallery's; returns the failure of its partitions, if any."""
    image_producer: ImageProducer = context.resources.image_producer
    events = SetEvents(prompt_set, context, image_producer, takes_all=True)
    outcome = Outcome(context.run.run_id)
    with reported_errors():
        yield from make_events(events, outcome)
    confirmed.append(events)
    failure = outcome.failure()
    with grouped_writes(context.instance):
        # In a run of its own this is a step, which fails the run after those that follow the set.
        yield dg.AssetCheckEvaluation(
            events.keys.images,
            NO_FAILURE,
            passed=failure is None,
            metadata={},
            description=None if failure is None else failure.description,
            target_materialization_data=events.target,
        )
    return failure


def _galleries(
    confirmed: Sequence[SetEvents], failures: dict[str, dg.Failure]
) -> Iterator[dg.AssetMaterialization]:
    from flux_pipeline.lineage.asked import read_asked

    asked = None
    for events in confirmed:
        with _noted(failures, events.prompt_set.name), reported_errors():
            asked = asked or read_asked(events.resource.open_pages())
            with grouped_writes(events.context.instance):
                yield from events.gallery(asked)


def _join(failures: Mapping[str, dg.Failure]) -> dg.Failure:
    reasons = {name: failure.description or "" for name, failure in failures.items()}
    shown = {
        name: {"reason": reasons[name]}
        | {key: value.value for key, value in failure.metadata.items()}
        for name, failure in failures.items()
    }
    return dg.Failure(
        description="\n".join(f"{name}: {reason}" for name, reason in reasons.items()),
        metadata={FAILED_SETS: dg.MetadataValue.json(shown)},
        allow_retries=False,
    )
