"""The launcher for Celery workers; what workers do with it is in tests/cluster."""

import dagster as dg
import pytest

pytest.importorskip("dagster_celery", reason="needs Celery: uv sync --extra celery")

from flux_pipeline.errors import ConfigError
from flux_pipeline.launcher import StoppingCeleryRunLauncher


@dg.op
def work() -> None:
    """Never runs here."""


@dg.job
def job() -> None:
    work()


def launcher(instance: dg.DagsterInstance) -> StoppingCeleryRunLauncher:
    """One whose broker is in this process, where no worker listens."""
    made = StoppingCeleryRunLauncher("dagster", broker="memory://", backend="cache+memory://")
    made.register_instance(instance)
    return made


@pytest.mark.parametrize("status", ["STARTED", "CANCELING"])
def test_a_terminated_run_is_canceling_so_that_nothing_starts_it_again(status: str) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        tags = {"dagster-celery/task_id": "a-task"}
        run = instance.create_run_for_job(job, status=dg.DagsterRunStatus[status], tags=tags)
        assert launcher(instance).terminate(run.run_id)
        ending = instance.get_run_by_id(run.run_id)
        assert ending is not None
        assert ending.status is dg.DagsterRunStatus.CANCELING


def test_a_run_that_is_over_or_unknown_is_not_terminated() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.SUCCESS)
        assert not launcher(instance).terminate(run.run_id)
        assert not launcher(instance).terminate("no-such-run")


@pytest.mark.parametrize("name", ["broker", "backend"])
@pytest.mark.parametrize("password", ["ca@nary", "ca/nary", "12/canary", "ca#nary", "ca%nary"])
def test_an_ambiguous_broker_is_refused_without_a_part_of_it(name: str, password: str) -> None:
    urls = {"broker": "memory://", "backend": "cache+memory://"}
    urls[name] = f"redis://:{password}@broker.internal:6379/0"
    with pytest.raises(ConfigError, match=rf"run_launcher\.config\.{name} .* encode @") as raised:
        StoppingCeleryRunLauncher("dagster", **urls)
    assert "nary" not in repr(raised.getrepr(chain=True, style="native"))


def test_celerys_own_variable_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://:ca/nary@broker.internal:6379/0")
    with pytest.raises(ConfigError, match="CELERY_BROKER_URL") as raised:
        StoppingCeleryRunLauncher("dagster")
    assert "nary" not in str(raised.value)
