"""The run launcher for Celery workers, as docs/cluster.md sets it up; needs the extra ``celery``.

dagster-celery's own launcher interrupts the worker without reporting the run as canceling. The run
then ends as failed, and run retries start it again: a run that a person terminated would pay on.
"""

from typing import Any

from dagster import DagsterRunStatus
from dagster_celery.launcher import CeleryRunLauncher

from flux_pipeline.endpoint import find_broker_mistake
from flux_pipeline.errors import ConfigError, Problem

_VARIABLES = ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND")


class StoppingCeleryRunLauncher(CeleryRunLauncher):
    """A ``CeleryRunLauncher`` whose terminated runs end as canceled and are not retried.

    Raises:
        ConfigError: For the URL of a broker or of its results that is ambiguous or none, without a
            part of it: libraries would show what they take for host and port.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # As Celery has it in the end: its own variables come before the file.
        urls = {"broker": self.celery.conf.broker_url, "backend": self.celery.conf.result_backend}
        problems = [
            Problem("dagster.yaml", 0, f"run_launcher.config.{name} ({variable})", mistake)
            for (name, url), variable in zip(urls.items(), _VARIABLES, strict=True)
            if url and (mistake := find_broker_mistake(url))
        ]
        if problems:
            raise ConfigError(problems)

    def terminate(self, run_id: str) -> bool:
        """Report the run as canceling, then have its worker interrupted."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        if run.status is not DagsterRunStatus.CANCELING:
            self._instance.report_run_canceling(run)
        return super().terminate(run_id)
