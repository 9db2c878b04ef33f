"""Assets downstream of a prompt set in the same run: they run for what is there, and the run fails.

The step of a prompt set emits the event of each partition by itself. So that Dagster runs the steps
behind it, it also yields the output of each asset, marked such that no second event is emitted.

A step that raises keeps everything behind it from running. So where some partitions failed and
others are there, and other steps of the run wait for them, the step ends well. The check
``no_partition_failed`` is a step of its own: it fails the run with the step's reasons.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.definitions.dependency import NodeHandle
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION
from dagster._core.execution.plan.handle import StepHandle
from dagster._core.execution.plan.objects import StepFailureData, UserFailureData

from flux_pipeline.defs.keys import SetKeys
from flux_pipeline.defs.partitions import build_partitions
from flux_pipeline.prompts import PromptSet

if TYPE_CHECKING:
    from flux_pipeline.image_reader import HasPromptSet

NO_FAILURE = "no_partition_failed"
"""The check that fails a run whose step has ended well in spite of a failed partition."""
_TOLERATED = "flux/tolerated_failure"
"""Marks the observation by which the step leaves its failure to the check."""
_AFTER_THE_STEP = frozenset(
    {"in_process", "multiprocess", "multi_or_in_process_executor", "execute_in_process_executor"}
)
"""Executors that do not read the run's log while they run; others would take a failure for new."""


@dataclass(frozen=True, slots=True)
class ImagesAsset:
    """What an asset of one's own needs to depend on the images of a prompt set."""

    key: dg.AssetKey
    """``<set>/images``"""
    partitions_def: dg.PartitionsDefinition[str]

    @property
    def dep(self) -> dg.AssetDep:
        """The dependency on the same partition, or on all where the asset has none."""
        return dg.AssetDep(self.key)


def images_of(prompt_set: "str | Path | PromptSet | HasPromptSet") -> ImagesAsset:
    """Key, partitions and dependency of a prompt set's images, for assets downstream.

    ``prompt_set`` is the name of one in the folder of FLUX_CONFIGS, the path of its file, a loaded
    one, or the component, as ``context.component_tree.load_component("winter")`` gives it.

    Raises:
        ConfigError: There is none, or its file is wrong.
    """
    from flux_pipeline.image_reader import find_prompt_set

    found = find_prompt_set(prompt_set)
    return ImagesAsset(SetKeys(found.name).images, build_partitions(found))


def build_failure_check(prompt_set: str) -> dg.AssetChecksDefinition:
    """Build the check that fails a run whose images are made in part."""

    @dg.asset_check(
        asset=SetKeys(prompt_set).images,
        name=NO_FAILURE,
        description="No partition of the run failed. Evaluated by a step of its own, so that assets"
        " downstream run for the partitions that are there.",
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        failure = _find_failure(context.instance, context.run, prompt_set)
        if failure:
            if context.job_def.executor_def.name in _AFTER_THE_STEP:
                _report_step_failure(context.instance, context.run, prompt_set, failure)
            raise failure
        return dg.AssetCheckResult(passed=True)

    return FailureCheck.dagster_internal_init(**check.get_attributes_dict())


class FailureCheck(dg.AssetChecksDefinition):
    """A check that is still one after Dagster has copied it, as it does in a project of components.

    Dagster's own copy is an ``AssetsDefinition``, for which it later warns of itself.
    """

    @staticmethod
    def dagster_internal_init(**attributes: Any) -> "FailureCheck":
        """Make the copy."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", dg.BetaWarning)
            return FailureCheck(**attributes)


def end_step(
    context: dg.AssetExecutionContext,
    prompt_set: str,
    failure: dg.Failure | None,
    *,
    some_made: bool,
) -> Iterator[dg.AssetObservation | dg.Output[None]]:
    """Yield the outputs for which steps downstream wait; the last thing that a set's step does.

    ``some_made``: whether a partition of the images is there in spite of the failure.

    Raises:
        dagster.Failure: ``failure``, unless steps wait for what is there and the check fails the
            run for it.
    """
    keys = SetKeys(prompt_set)
    if failure is not None:
        if not some_made or not _may_end_well(context, prompt_set):
            raise failure
        yield dg.AssetObservation(
            keys.images,
            description=failure.description,
            metadata={**failure.metadata, _TOLERATED: True},
        )
    for key in (keys.prompts, keys.images, keys.gallery):  # none before what it is made of
        if key in context.selected_asset_keys:
            yield output_without_event(key)


def output_without_event(key: dg.AssetKey) -> dg.Output[None]:
    """The output of an asset whose events were emitted already, so that steps behind it run."""
    return dg.Output(
        None,
        output_name=key.to_python_identifier(),
        # Dagster emits no event for an output with this mark. It has no public name; a test
        # holds what is relied on.
        metadata={SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True},
    )


def _may_end_well(context: dg.AssetExecutionContext, step: str) -> bool:
    """Whether other steps of this run wait for this one, and the check is among them."""
    waiting = set(_waiting_steps(context.job_def, step))
    if chosen := context.run.step_keys_to_execute:
        waiting &= set(chosen)
    check = _check_step(step)
    return check in waiting and waiting != {check}


def _waiting_steps(job: dg.JobDefinition, step: str) -> Iterator[str]:
    for node, inputs in job.dependencies.items():
        behind = {
            each.node for needed in inputs.values() for each in needed.get_node_dependencies()
        }
        if step in behind:
            yield node.alias or node.name


def _check_step(prompt_set: str) -> str:
    spec = dg.AssetCheckSpec(NO_FAILURE, asset=SetKeys(prompt_set).images)
    return spec.get_python_identifier()


def _find_failure(
    instance: dg.DagsterInstance, run: dg.DagsterRun, prompt_set: str
) -> dg.Failure | None:
    """The failure that the step has left to the check; alone, the check repeats the run before."""
    chosen = run.step_keys_to_execute
    run_id = run.parent_run_id if chosen and prompt_set not in chosen else run.run_id
    logged = (
        instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_OBSERVATION) if run_id else []
    )
    for entry in logged:
        event = entry.asset_observation
        if event is None or event.asset_key != SetKeys(prompt_set).images:
            continue
        if _TOLERATED in event.metadata:
            shown = {name: value for name, value in event.metadata.items() if name != _TOLERATED}
            return dg.Failure(description=event.description, metadata=shown, allow_retries=False)
    return None


def _report_step_failure(
    instance: dg.DagsterInstance, run: dg.DagsterRun, step: str, failure: dg.Failure
) -> None:
    """Write into the run's log that the step failed.

    So "re-execute from failure" takes the step again, and with it all steps that follow it: the
    step makes what is missing, and the followers get it.
    """
    # Through names with a type: Dagster's own constructors have none.
    user_data: Callable[..., Any] = UserFailureData
    step_data: Callable[..., Any] = StepFailureData
    data = user_data("partitions failed", failure.description, failure.metadata)
    event = dg.DagsterEvent(
        event_type_value=dg.DagsterEventType.STEP_FAILURE.value,
        job_name=run.job_name,
        step_handle=StepHandle(node_handle=NodeHandle(step, None)),
        step_kind_value="COMPUTE",
        event_specific_data=step_data(error=None, user_failure_data=data),
        message=f"{step}: {(failure.description or '').partition(chr(10))[0]}",
    )
    instance.report_dagster_event(event, run.run_id)
