"""Data versions of prompts and images, as the event tags from which Dagster derives "stale".

Dagster writes these tags to the events that it emits itself. The events here are emitted by hand,
each for one partition, so their tags are written here too. The four tag names are Dagster's, and so
is the class of a check's target, which has no public name; tests hold both against Dagster.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)

from flux_pipeline.lineage.record import ImageRecord, ImageStatus

Target: TypeAlias = AssetCheckEvaluationTargetMaterializationData
"""The materialization that a check was evaluated for."""
DATA_VERSION = "dagster/data_version"
_INPUT_VERSION = "dagster/input_data_version/"
_AT_ONCE = 500
"""Events in one query."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """The latest materialization of an upstream asset, as an input of this run."""

    key: dg.AssetKey
    pointer: str
    """The storage id of that event; ``NULL`` where there is none."""

    def tags(self, data_version: str) -> dict[str, str]:
        """The tags that say which data version of it was used."""
        name = self.key.to_user_string()
        return {
            f"{_INPUT_VERSION}{name}": data_version,
            f"dagster/input_event_pointer/{name}": self.pointer,
        }


def find_upstream(instance: dg.DagsterInstance, key: dg.AssetKey) -> Upstream:
    """Look up the latest event of an asset; meant to be called once a run, not once a partition."""
    return upstream_of(key, find_target(instance, key))


def upstream_of(key: dg.AssetKey, latest: Target | None) -> Upstream:
    """The same, where that event is known."""
    return Upstream(key, str(latest.storage_id) if latest else "NULL")


def find_versions(instance: dg.DagsterInstance, key: dg.AssetKey) -> Mapping[str, str]:
    """The data version of each materialized partition of an asset."""
    event = dg.DagsterEventType.ASSET_MATERIALIZATION
    tags = instance.event_log_storage.get_latest_tags_by_partition(key, event, [DATA_VERSION])
    return {partition: each[DATA_VERSION] for partition, each in tags.items() if each}


def find_target(instance: dg.DagsterInstance, key: dg.AssetKey) -> Target | None:
    """Look up the latest materialization of an asset, for a check on it to name.

    A check without this target shows in the UI as one on an older event.
    """
    latest = instance.fetch_materializations(key, limit=1).records
    return _target(latest[0]) if latest else None


def find_targets(
    instance: dg.DagsterInstance, key: dg.AssetKey, partitions: Sequence[str]
) -> Mapping[str, Target]:
    """As ``find_target``, by partition: without it the UI shows a partition as unchecked."""
    latest = find_latest(instance, key, partitions)
    return {partition: _target(record) for partition, record in latest.items()}


def _target(record: dg.EventLogRecord) -> Target:
    return Target(storage_id=record.storage_id, run_id=record.run_id, timestamp=record.timestamp)


def find_latest(
    instance: dg.DagsterInstance, key: dg.AssetKey, partitions: Sequence[str]
) -> Mapping[str, dg.EventLogRecord]:
    """The latest materialization of each of these partitions that has one, in two queries.

    Meant to be called for a group of partitions: a query costs Dagster a millisecond.
    """
    if not partitions:
        return {}
    event = dg.DagsterEventType.ASSET_MATERIALIZATION
    ids = instance.event_log_storage.get_latest_storage_id_by_partition(key, event, set(partitions))
    if not ids:
        return {}
    wanted = dg.AssetRecordsFilter(key, storage_ids=list(ids.values()))
    found = instance.fetch_materializations(wanted, limit=len(ids)).records
    return {record.partition_key or "": record for record in found}


def find_stale_partitions(
    instance: dg.DagsterInstance, images: dg.AssetKey, prompts: dg.AssetKey
) -> Iterator[str]:
    """Give the partitions whose images were made from other prompts than were read last.

    By the same rule as Dagster's "stale" mark, which the UI shows only on each partition's own
    page. Costs three queries, and one more event for each partition whose prompts were read again.
    """
    storage, event = instance.event_log_storage, dg.DagsterEventType.ASSET_MATERIALIZATION
    # Storage ids grow, so prompts that were read before the images were made can't be newer.
    read = storage.get_latest_storage_id_by_partition(prompts, event)
    made = storage.get_latest_storage_id_by_partition(images, event)
    again = [made[key] for key in made.keys() & read.keys() if read[key] > made[key]]
    versions = storage.get_latest_tags_by_partition(prompts, event, [DATA_VERSION])
    used = f"{_INPUT_VERSION}{prompts.to_user_string()}"
    for start in range(0, len(again), _AT_ONCE):
        ids = again[start : start + _AT_ONCE]
        wanted = dg.AssetRecordsFilter(images, storage_ids=ids)
        for record in instance.fetch_materializations(wanted, limit=len(ids)).records:
            tags = (record.asset_materialization and record.asset_materialization.tags) or {}
            key = record.partition_key or ""
            if tags.get(used) != versions.get(key, {}).get(DATA_VERSION):
                yield key


def version_tags(data_version: str, code_version: str) -> Mapping[str, str]:
    """The tags that say which data version was made, and by which version of the code."""
    return {DATA_VERSION: data_version, "dagster/code_version": code_version}


def images_version(records: Iterable[ImageRecord]) -> str:
    """The data version of images: a hash of their pixels' hashes, which depends on no order."""
    hashes = sorted(
        record.image_sha256
        for record in records
        if record.status is ImageStatus.STORED and record.image_sha256
    )
    return hashlib.sha256("".join(hashes).encode()).hexdigest()
