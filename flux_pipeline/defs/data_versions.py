"""Provenance tags: what makes Dagster's "stale" exact, partition by partition.

Dagster writes them to the events that it emits itself. An event for one partition of many is ours,
so its tags are ours too. The four names are Dagster's, and a test holds them against it; the class
of a check's target has no public name, and a test looks at what Dagster makes of it.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)

from flux_pipeline.lineage.record import ImageRecord, ImageStatus

Target: TypeAlias = AssetCheckEvaluationTargetMaterializationData
"""The materialization that a check speaks of."""
_DATA_VERSION = "dagster/data_version"
_INPUT_VERSION = "dagster/input_data_version/"
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Upstream:
    """What was read of an asset upstream."""

    key: dg.AssetKey
    pointer: str
    """The storage id of its latest event: whatever comes later is news."""

    def tags(self, data_version: str) -> dict[str, str]:
        """Say that this version of it was used."""
        name = self.key.to_user_string()
        return {
            f"{_INPUT_VERSION}{name}": data_version,
            f"dagster/input_event_pointer/{name}": self.pointer,
        }


def find_upstream(instance: dg.DagsterInstance, key: dg.AssetKey) -> Upstream:
    """Look up the latest event of an asset, once a run and not once a partition."""
    latest = instance.fetch_materializations(key, limit=1).records
    return Upstream(key, str(latest[0].storage_id) if latest else "NULL")


def find_target(
    instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None = None
) -> Target | None:
    """Look up what a check on an asset, or on one of its partitions, speaks of: the latest event.

    Without it the UI takes the check for one of an older event, and the partition for unchecked.
    """
    wanted = dg.AssetRecordsFilter(key, asset_partitions=[partition] if partition else None)
    latest = instance.fetch_materializations(wanted, limit=1).records
    if not latest:
        return None
    return Target(
        storage_id=latest[0].storage_id, run_id=latest[0].run_id, timestamp=latest[0].timestamp
    )


def find_stale_partitions(
    instance: dg.DagsterInstance, images: dg.AssetKey, prompts: dg.AssetKey
) -> Iterator[str]:
    """Partitions whose images are not of the prompts that were read again after they were made.

    As Dagster reckons it, who shows it on the page of each partition alone. Costs three queries,
    and the reading of an event for each partition whose prompts were read again.
    """
    storage, event = instance.event_log_storage, dg.DagsterEventType.ASSET_MATERIALIZATION
    read = storage.get_latest_storage_id_by_partition(prompts, event)
    made = storage.get_latest_storage_id_by_partition(images, event)
    again = [made[key] for key in made.keys() & read.keys() if read[key] > made[key]]
    versions = storage.get_latest_tags_by_partition(prompts, event, [_DATA_VERSION])
    used = f"{_INPUT_VERSION}{prompts.to_user_string()}"
    for start in range(0, len(again), _AT_ONCE):
        ids = again[start : start + _AT_ONCE]
        wanted = dg.AssetRecordsFilter(images, storage_ids=ids)
        for record in instance.fetch_materializations(wanted, limit=len(ids)).records:
            tags = (record.asset_materialization and record.asset_materialization.tags) or {}
            key = record.partition_key or ""
            if tags.get(used) != versions.get(key, {}).get(_DATA_VERSION):
                yield key


def version_tags(data_version: str, code_version: str) -> Mapping[str, str]:
    """Say what was made, and by which version of the code."""
    return {_DATA_VERSION: data_version, "dagster/code_version": code_version}


def images_version(records: Iterable[ImageRecord]) -> str:
    """Hash the images' own hashes, in any order: it changes only when a picture does."""
    hashes = sorted(
        record.image_sha256
        for record in records
        if record.status is ImageStatus.STORED and record.image_sha256
    )
    return hashlib.sha256("".join(hashes).encode()).hexdigest()
