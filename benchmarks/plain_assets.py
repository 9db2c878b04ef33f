"""Plain Dagster definitions of the shape that prompt sets have, which ``benchmarks.load`` compares.

The assets, partitions, checks, jobs, schedules, freshness and sensors of as many sets, written by
hand as Dagster's documents show them. Nothing reads a file, and nothing would make an image.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

CRON = "0 6 * * *"
"""The schedule of every set."""
_FRESHNESS = dg.FreshnessPolicy.cron("0 7 * * *", timedelta(hours=1), "UTC")
_CHECKS_OF_THE_STEP = 11
_SENSORS, _SHARED = 3, ("lineage", "spend", "gallery")


def build_plain(sets: int, prompts: int) -> dg.Definitions:
    """Build so many sets of so many partitions each, and what a project has besides."""
    names = [f"set_{number:03d}" for number in range(sets)]
    keys = [f"idea-{number:04d}" for number in range(prompts)]
    jobs = [_job(name) for name in names]
    shared = [_shared_asset(name, names) for name in _SHARED]
    shared_job = dg.define_asset_job("refresh", dg.AssetSelection.assets(*_SHARED))
    op_job, by_hand = _op_job("rescue"), _op_job("unchanged")
    return dg.Definitions(
        assets=[*(_step(name, keys) for name in names), *shared],
        asset_checks=[_check(name) for name in names],
        jobs=[*jobs, shared_job, op_job, by_hand],
        schedules=[_schedule(job) for job in (*jobs, shared_job, op_job)],
        sensors=[_sensor(number) for number in range(_SENSORS)],
        executor=dg.in_process_executor,
    )


def shape_of(repository: dg.RepositoryDefinition) -> tuple[int, ...]:
    """How many assets, checks, jobs, schedules, sensors and partitions there are."""
    graph = repository.asset_graph
    keys = graph.get_all_asset_keys()
    cuts = [cut for key in keys if (cut := graph.get(key).partitions_def) is not None]
    return (
        len(keys),
        len(graph.asset_check_keys),
        len(repository.get_all_jobs()),
        len(repository.schedule_defs),
        len(repository.sensor_defs),
        sum(len(cut.get_partition_keys()) for cut in cuts),
    )


def _step(name: str, keys: Sequence[str]) -> dg.AssetsDefinition:
    """One step that makes the three assets of a set."""
    partitions = dg.StaticPartitionsDefinition(keys)
    prompts, images, gallery = (_key(name, each) for each in ("prompts", "images", "gallery"))
    specs = [
        dg.AssetSpec(prompts, partitions_def=partitions, kinds={"yaml"}),
        dg.AssetSpec(
            images,
            deps=[prompts],
            partitions_def=partitions,
            freshness_policy=_FRESHNESS,
            kinds={"image"},
        ),
        dg.AssetSpec(gallery, deps=[images], freshness_policy=_FRESHNESS, kinds={"html"}),
    ]

    @dg.multi_asset(
        name=name,
        group_name=name,
        specs=specs,
        check_specs=[
            dg.AssetCheckSpec(
                f"check_{number}", asset=images, partitions_def=None if number else partitions
            )
            for number in range(_CHECKS_OF_THE_STEP)
        ],
        can_subset=True,
    )
    def make(_context: dg.AssetExecutionContext) -> Iterator[Any]:
        yield from ()

    return make


def _key(name: str, asset: str) -> dg.AssetKey:
    return dg.AssetKey([name, asset])


def _check(name: str) -> dg.AssetChecksDefinition:
    """A check in a step of its own."""

    @dg.asset_check(asset=_key(name, "images"), name="check_of_its_own")
    def check() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    return check


def _job(name: str) -> Any:  # the type of define_asset_job is not public
    selection = dg.AssetSelection.groups(name)
    return dg.define_asset_job(f"make_{name}", selection, executor_def=dg.in_process_executor)


def _schedule(job: Any) -> dg.ScheduleDefinition:
    @dg.schedule(name=f"{job.name}_on_time", job=job, cron_schedule=CRON)
    def on_time() -> dg.SkipReason:
        return dg.SkipReason("plain")

    return on_time


def _shared_asset(name: str, sets: Sequence[str]) -> dg.AssetsDefinition:
    @dg.asset(name=name, group_name="shared", deps=[_key(each, "images") for each in sets])
    def shared() -> None:
        pass

    return shared


def _op_job(name: str) -> dg.JobDefinition:
    @dg.op(name=f"{name}_op")
    def work() -> None:
        pass

    @dg.job(name=name, executor_def=dg.in_process_executor)
    def job() -> None:
        work()

    return job


def _sensor(number: int) -> dg.SensorDefinition:
    @dg.sensor(name=f"sensor_{number}", minimum_interval_seconds=60)
    def sensor() -> dg.SkipReason:
        return dg.SkipReason("plain")

    return sensor
