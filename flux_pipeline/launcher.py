"""Hands runs to Celery workers, as docs/cluster.md sets it up; needs the extra ``celery``.

dagster-celery's own launcher tells a worker to stop and nobody else: the run then ends as failed,
and run retries start what a person has just terminated once more, paying on.
"""

from dagster import DagsterRunStatus
from dagster_celery.launcher import CeleryRunLauncher


class StoppingCeleryRunLauncher(CeleryRunLauncher):
    """A ``CeleryRunLauncher`` with whose runs *Terminate* is the end: they are canceled."""

    def terminate(self, run_id: str) -> bool:
        """Write down that the run is canceling, then have its worker interrupted."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        if run.status is not DagsterRunStatus.CANCELING:
            self._instance.report_run_canceling(run)
        return super().terminate(run_id)
