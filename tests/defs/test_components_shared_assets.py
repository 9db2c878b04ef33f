"""The component SharedAssets: what the prompt sets of another project share, over all it finds."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

import flux_pipeline
from flux_pipeline.resources import ImageProducer
from tests.defs.component_project import (
    MODEL,
    config_error,
    load,
    write_defs,
)
from tests.servers.webhook import receiver

pytestmark = pytest.mark.filterwarnings("ignore:`parse_obj_as` is deprecated")

HEAD = f"model: {MODEL}\nprompts: {{a: a}}\n"
OTHER = """\
import dagster as dg


@dg.asset(automation_condition=dg.AutomationCondition.eager())
def theirs(): ...


@dg.job
def make_coffee(): ...
"""


@pytest.fixture
def shared(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with sets of every kind, whose resource comes from the environment."""
    (project / "src/other/defs/resources.py").unlink()
    (project / "src/other/defs/theirs.py").write_text(OTHER)
    write_defs(project, "ice", f"{HEAD}automation: on_change\n")
    write_defs(
        project, "two", f"name: snow\n{HEAD}", f"name: rain\n{HEAD}schedule: {{cron: 0 6 * * *}}\n"
    )
    write_defs(project, "shared", "", kind="SharedAssets")
    monkeypatch.setenv("FLUX_STORE", "file:elsewhere")
    return project


def mistakes(project: Path) -> list[tuple[str, str]]:
    with pytest.raises(Exception, match="Error while building definitions") as raised:
        load(project)
    return [
        (str(Path(each.path).name), each.message) for each in config_error(raised.value).problems
    ]


def test_the_shared_assets_are_over_every_set_of_the_project(shared: Path) -> None:
    definitions = load(shared)
    graph = definitions.resolve_asset_graph()

    def of_each(asset: str) -> set[dg.AssetKey]:
        return {dg.AssetKey([name, asset]) for name in ("ice", "snow", "rain")}

    assert graph.get(dg.AssetKey("lineage")).parent_keys == of_each("images")
    assert graph.get(dg.AssetKey("gallery")).parent_keys == of_each("gallery")
    assert graph.get(dg.AssetKey("spend")).parent_keys == {dg.AssetKey("lineage")}
    repository = definitions.get_repository_def()
    assert set(repository.job_names) >= {
        "refresh_shared_assets",
        "confirm_unchanged",
        "rescue_predictions",
        "make_coffee",
    }
    assert {each.name for each in repository.schedule_defs} == {
        "refresh_shared_assets_hourly",
        "rescue_predictions_every_ten_minutes",
        "make_rain_on_time",
    }
    dg.Definitions.validate_loadable(definitions)


def test_the_automation_sensor_leaves_other_assets_to_the_project(shared: Path) -> None:
    definitions = load(shared)
    sensors = {each.name: each for each in definitions.get_repository_def().sensor_defs}
    assert set(sensors) == {
        "on_change",
        "alert_on_failure",
        "alert_on_late_schedules",
        "configs_changed",
        "default_automation_condition_sensor",
    }
    graph = definitions.resolve_asset_graph()
    looked_after = {
        name: sensor.asset_selection.resolve(graph)
        for name, sensor in sensors.items()
        if isinstance(sensor, dg.AutomationConditionSensorDefinition)
    }
    assert {key.path[0] for key in looked_after["on_change"]} == {"ice"}
    assert dg.AssetKey("theirs") in looked_after["default_automation_condition_sensor"]
    assert not looked_after["on_change"] & looked_after["default_automation_condition_sensor"]


def test_the_resource_comes_from_the_environment_and_the_executor_from_the_project(
    shared: Path,
) -> None:
    definitions = load(shared)
    assert definitions.resources is not None
    producer = definitions.resources["image_producer"]
    assert isinstance(producer, ImageProducer)
    assert producer.store == "file:elsewhere"
    assert definitions.executor is None


def test_a_resource_of_the_projects_own_is_said_in_the_component(shared: Path) -> None:
    (shared / "src/other/defs/resources.py").write_text(
        "import dagster as dg\nfrom flux_pipeline import ImageProducer\n"
        "@dg.definitions\ndef resources():\n"
        "    producer = ImageProducer(store='file:own')\n"
        "    return dg.Definitions(resources={'image_producer': producer})\n"
    )
    with pytest.raises(Exception, match="Error while building") as raised:
        load(shared)
    assert "different resources with same key 'image_producer'" in str(raised.value.__cause__)
    write_defs(shared, "shared", "image_producer: project", kind="SharedAssets")
    definitions = load(shared)
    assert definitions.resources is not None
    assert definitions.resources["image_producer"].store == "file:own"
    dg.Definitions.validate_loadable(definitions)


def test_what_is_there_twice_is_named_with_its_place(shared: Path) -> None:
    write_defs(shared, "more", f"name: snow\n{HEAD}")
    ((place, said),) = mistakes(shared)
    assert place == "defs.yaml"
    assert said.startswith("is named snow, and so is one in ")
    write_defs(shared, "more", "", kind="SharedAssets")
    assert mistakes(shared)[0][1].startswith("a project has one SharedAssets")


def test_a_mistake_in_the_environment_is_named(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLUX_STORE", "nowhere")
    ((place, said),) = mistakes(shared)
    assert place == "environment"
    assert "is no address of a store" in said


def test_alerts_are_of_our_runs_alone(shared: Path) -> None:
    with receiver() as webhook, dg.DagsterInstance.ephemeral() as instance:
        sender = flux_pipeline.AlertSender(url=f"{webhook.origin}/hook")
        repository = load(shared).get_repository_def()
        on_failure: Any = repository.get_sensor_def("alert_on_failure")
        for job_name, selection in (
            ("make_coffee", None),
            ("__ASSET_JOB", {dg.AssetKey("theirs")}),
            ("__ASSET_JOB", {dg.AssetKey("theirs"), dg.AssetKey(["ice", "images"])}),
            ("make_snow", None),
            ("refresh_shared_assets", None),
        ):
            run = instance.create_run_for_job(
                repository.get_job(job_name), asset_selection=frozenset(selection or ()) or None
            )
            instance.report_run_failed(run)
            (record,) = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
            assert record.dagster_event is not None
            context = dg.build_run_status_sensor_context(
                sensor_name="alert_on_failure",
                dagster_event=record.dagster_event,
                dagster_instance=instance,
                dagster_run=run,
                resources={"alert_sender": sender},
            ).for_run_failure()
            on_failure(context)
    assert [each["title"].split()[0] for each in webhook.bodies] == [
        "__ASSET_JOB",
        "make_snow",
        "refresh_shared_assets",
    ]


def test_shared_assets_are_made_in_python_too(project: Path) -> None:
    (project / "src/other/defs/shared.py").write_text(
        "import dagster as dg\nfrom flux_pipeline import SharedAssets\n"
        "@dg.component_instance\n"
        "def load(context: dg.ComponentLoadContext) -> SharedAssets:\n"
        "    given = {'image_producer': 'project'}\n"
        "    return SharedAssets.from_attributes_dict(attributes=given, context=context)\n"
    )
    assert dg.AssetKey("lineage") in load(project).resolve_all_asset_keys()


def test_the_name_of_version_0_1_is_accepted_for_one_release(shared: Path) -> None:
    (shared / "src/other/defs/shared/defs.yaml").write_text("type: flux_pipeline.ImageBooks\n")

    with pytest.warns(FutureWarning, match="ImageBooks is flux_pipeline.SharedAssets now"):
        definitions = load(shared)

    assert "refresh_shared_assets" in definitions.get_repository_def().job_names
