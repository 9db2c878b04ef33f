"""The rescue job: finishes predictions of runs that died by their id, every ten minutes.

It reads the claims in the ledger, not the runs in Dagster: a machine that dies leaves its run
STARTED for ever, and the provider deletes outputs an hour after they are made.
"""

from collections.abc import Iterator

import dagster as dg

from flux_pipeline.defs.alert_sensors import notify_rescued
from flux_pipeline.defs.events import reported_errors
from flux_pipeline.resources import AlertSender, ImageProducer

RESCUE = "rescue_predictions"
"""The job's name."""
_MOST_REASONS = 10
_TAGS = {
    "dagster/priority": "10",  # first in the queue: outputs vanish while it waits
    "dagster/max_runtime": "540",  # over before the next one; that one goes on with the rest
}


@dg.op(description="Finishes by id what was accepted and left; creates nothing.")
def finish_what_was_left(
    context: dg.OpExecutionContext, image_producer: ImageProducer, alert_sender: AlertSender
) -> None:
    """Finish them; not in the pool of the runs that make images, where one that hangs blocks it."""
    from flux_pipeline.audit.rescue import rescue

    with reported_errors(), image_producer.open() as producer:
        done = rescue(producer, run_id=context.run_id)
    for line in [*done.reasons.lines(_MOST_REASONS), *done.notices, *done.unreadable.values()]:
        context.log.warning(line)
    context.log.info("%d left over; now %s", done.found, dict(done.states))
    notify_rescued(context.instance, context.run_id, done, alert_sender)
    if done.store_error is not None:
        with reported_errors():
            raise done.store_error


@dg.job(name=RESCUE, tags=_TAGS, executor_def=dg.in_process_executor)
def _rescue_job() -> None:
    """Finishes what runs that died have left at the provider, before it vanishes there."""
    finish_what_was_left()


def build_rescue_job() -> tuple[dg.JobDefinition, dg.ScheduleDefinition]:
    """Build the job and its schedule, which runs from the start.

    A tick that finds nothing left starts no run.
    """

    @dg.schedule(
        name=f"{RESCUE}_every_ten_minutes",
        job=_rescue_job,
        cron_schedule="*/10 * * * *",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Starts the rescue where the ledger shows that something was left.",
    )
    def every_ten_minutes(
        context: dg.ScheduleEvaluationContext, image_producer: ImageProducer
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        from flux_pipeline.audit.rescue import RESCUE_AFTER
        from flux_pipeline.ledger.open import open_ledger

        with open_ledger(image_producer.ledger) as ledger:
            left = ledger.unfinished(older_than=RESCUE_AFTER, limit=1)
        if left:
            yield dg.RunRequest(run_key=context.scheduled_execution_time.isoformat())
        else:
            yield dg.SkipReason("Nothing was left.")

    return _rescue_job, every_ten_minutes
