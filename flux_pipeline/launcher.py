"""The run launcher for Celery workers, as docs/cluster.md sets it up; needs the extra ``celery``.

dagster-celery's own launcher interrupts the worker without reporting the run as canceling. The run
then ends as failed, and run retries start it again: a run that a person terminated would pay on.
"""

from dagster import DagsterRunStatus
from dagster_celery.launcher import CeleryRunLauncher


class StoppingCeleryRunLauncher(CeleryRunLauncher):
    """A ``CeleryRunLauncher`` whose terminated runs end as canceled and are not retried."""

    def terminate(self, run_id: str) -> bool:
        """Report the run as canceling, then have its worker interrupted."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        if run.status is not DagsterRunStatus.CANCELING:
            self._instance.report_run_canceling(run)
        return super().terminate(run_id)
