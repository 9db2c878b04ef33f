"""The sensor ``configs_changed``: after an edit it reloads the code location and reads the prompts.

Partitions and schedules are part of a loaded code location, so that an edit needs a reload. And
Dagster knows which partitions of the images are stale only once their prompts are materialized
again. After a mistake in a file nothing is reloaded: the prompt sets loaded before go on.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import dagster as dg

from flux_pipeline.defs.keys import SetKeys, set_tags
from flux_pipeline.defs.partitions import range_tags
from flux_pipeline.defs.specs import prompts_version
from flux_pipeline.defs.web_interface import (
    SENSOR,
    ReloadFailedError,
    describe_load,
    reload_location,
)
from flux_pipeline.errors import ConfigError
from flux_pipeline.prompts import ByDay, PromptSet, load_prompt_sets
from flux_pipeline.prompts.load_cache import OFF, LoadCache
from flux_pipeline.prompts.picks import picks_of
from flux_pipeline.text import first_of, safe_text

_EVERY = 15  # s
_MOST_NAMED = 5

Stamp: TypeAlias = tuple[int, int, str]
"""A file's size in bytes, time of its last change in ns, SHA-256."""
Stamps: TypeAlias = Mapping[Path, Stamp]


@dataclass(frozen=True, slots=True)
class WatchedPromptSets:
    """Loaded prompt sets, with the state of their files just before they were loaded."""

    place: Path
    """The folder that they lie in, by which their project is known."""
    files: Stamps
    prompt_sets: Sequence[PromptSet]
    find: Callable[[], Iterable[Path]]
    """Finds the files that there are now."""
    load: Callable[[], Sequence[PromptSet]]
    """Loads all prompt sets from the files as they are now; raises ConfigError."""

    def changed_files(self) -> Mapping[str, str]:
        """The files that are new, removed or edited, by path, with their hash (empty: removed).

        A file with another time and the same content is not edited. Only files whose size or time
        differ are read: a thousand files cost some milliseconds.
        """
        changed = {}
        for path in sorted({*self.files, *self.find(), *picks_files(self.prompt_sets)}):
            before, now = self.files.get(path), _stat(path)
            if now != (before and before[:2]):
                digest = _sha256(path)
                if before is None or digest != before[2]:
                    changed[str(path)] = digest
        for table in (each for s in self.prompt_sets for each in s.expansion.tables):
            if not table.is_unchanged():
                changed[str(table.path)] = _sha256(table.path)
        return changed


def build_changes_sensor(watched: WatchedPromptSets, ui_url: str) -> dg.SensorDefinition:
    """Build the sensor that reloads the code location through the web interface after an edit.

    If the web interface can't be reached, or is another project's, its tick names the file and what
    to press. After the
    reload it requests runs that read the prompts of edited sets: that costs nothing and makes no
    image, so it does not depend on ``automation``.
    """
    prompts = [SetKeys(prompt_set.name).prompts for prompt_set in watched.prompt_sets]

    @dg.sensor(
        name=SENSOR,
        metadata=describe_load(watched.place),
        asset_selection=prompts or None,
        minimum_interval_seconds=_EVERY,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Reloads the code location when a prompt set or a table was edited, and reads"
        " its prompts again; where it can't, and where a file has a mistake, its tick says so.",
    )
    def on_changed(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        changed, known = watched.changed_files(), json.loads(context.cursor or "{}")
        if not changed:
            read = known.get("read", {})
            requests = list(_runs_that_read(context.instance, watched.prompt_sets, read))
            context.update_cursor(json.dumps({"read": read}))
            if requests:
                return dg.SensorResult(run_requests=requests)
            return dg.SkipReason(f"Files unchanged since they were loaded: {len(watched.files)}.")
        # A state with which nothing is left to be done is not loaded again every 15 s.
        state = hashlib.sha256(json.dumps(changed).encode()).hexdigest()
        if known.get("state") == state and known.get("final"):
            return dg.SkipReason(known["said"])
        said, final = _load_and_reload(watched, changed, ui_url)
        context.update_cursor(json.dumps(known | {"state": state, "final": final, "said": said}))
        return dg.SkipReason(said)

    return on_changed


def _runs_that_read(
    instance: dg.DagsterInstance, prompt_sets: Sequence[PromptSet], read: dict[str, str]
) -> Iterator[dg.RunRequest]:
    """Request the prompts of every set edited since they were read; note its version in ``read``.

    Left out are prompts that were never materialized, sets by day, whose made days keep the prompts
    that they were made from, and sets with ``on_change``, which the automation sensor reads.
    """
    for prompt_set in prompt_sets:
        name, version = prompt_set.name, prompts_version(prompt_set)
        if read.get(name) == version:
            continue
        read[name] = version
        keys = SetKeys(name)
        latest = instance.fetch_materializations(keys.prompts, limit=1).records
        event = latest[0].asset_materialization if latest else None
        was = (event.tags or {}).get("dagster/code_version") if event else version
        automatic = prompt_set.automation == "on_change"
        if was == version or automatic or isinstance(prompt_set.partitions, ByDay):
            continue
        known = prompt_set.partition_keys()  # all in one run, which reads the file once
        yield dg.RunRequest(
            # The id of the last reading is in the key, so that an edit taken back is read too.
            run_key=f"{name} {version} {latest[0].storage_id}",
            asset_selection=[keys.prompts],
            tags={
                **set_tags(prompt_set),
                **range_tags(dg.PartitionKeyRange(known[0], known[-1])),
            },
        )


def _load_and_reload(
    watched: WatchedPromptSets, changed: Mapping[str, str], ui_url: str
) -> tuple[str, bool]:
    """Load the changed files here, and if that works have the code location reloaded.

    Gives the words for the tick, and whether nothing is left to be done until the next edit.
    """
    files = first_of(list(changed), _MOST_NAMED)
    try:
        now = watched.load()
        repicked = [each for each in now if str(each.choice.path) in changed]
        for each in repicked:
            picks_of(each)  # a wrong row is told here, and not by the next run alone
    except ConfigError as error:
        said = "\n".join(safe_text(str(problem)) for problem in error.problems)
        return f"{files} changed; not loaded, the prompt sets before it go on:\n{said}", True
    told = [*describe_changes(watched.prompt_sets, now)]
    told += [f"{each.name}: other picks" for each in repicked]
    news = "; ".join(told) or "no request is another"
    try:
        location = reload_location(ui_url, watched.place)
    except ReloadFailedError as problem:
        page = "in its own web interface" if problem.elsewhere else f"at {ui_url}/locations"
        return f"{files} changed ({news}): press Reload {page}, for {problem}", False
    return f"{files} changed ({news}): the code location {location} was reloaded", True


def describe_changes(before: Sequence[PromptSet], after: Sequence[PromptSet]) -> Iterator[str]:
    """Say for each prompt set which partitions are new, edited and removed."""
    old, new = ({each.name: each for each in sets} for sets in (before, after))
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            yield f"{name} is new"
        elif name not in new:
            yield f"{name} is gone, its pictures stay"
        elif old[name].config_sha256 != new[name].config_sha256:
            parts = list(_changed_partitions(old[name], new[name]))
            yield f"{name}: {', '.join(parts) or 'no request is another'}"


def _changed_partitions(before: PromptSet, after: PromptSet) -> Iterator[str]:
    old, new = before.partition_keys(), after.partition_keys()
    if isinstance(after.partitions, ByDay) or not (before.is_checked and after.is_checked):
        yield "edited"
    else:
        both = [key for key in new if key in set(old)]
        versions = _versions(before, both), _versions(after, both)
        edited = [key for key in both if versions[0].get(key) != versions[1].get(key)]
        if both and not all(versions):
            yield "its table is another"
        elif edited:
            yield f"{len(edited)} edited ({first_of(edited, _MOST_NAMED)})"
    if added := [key for key in new if key not in set(old)]:
        yield f"{len(added)} new ({first_of(added, _MOST_NAMED)})"
    if removed := [key for key in old if key not in set(new)]:
        yield f"{len(removed)} removed ({first_of(removed, _MOST_NAMED)}; the pictures stay)"


def _versions(prompt_set: PromptSet, keys: Sequence[str]) -> Mapping[str, str]:
    try:
        return prompt_set.data_versions(keys)
    except ConfigError:  # its table was edited: its earlier requests are not known any more
        return {}


def watch_folder(folder: Path, cache: LoadCache = OFF) -> WatchedPromptSets:
    """Load every prompt set of the folder, with the state of its files just before.

    Raises:
        ConfigError: As ``load_prompt_sets``.
    """
    stamps = stamp_files(_prompt_set_files(folder))
    find, load = partial(_prompt_set_files, folder), partial(load_prompt_sets, folder, cache)
    prompt_sets = load()
    stamps = {**stamps, **stamp_files(picks_files(prompt_sets))}
    return WatchedPromptSets(folder, stamps, prompt_sets, find, load)


def picks_files(prompt_sets: Iterable[PromptSet]) -> Iterator[Path]:
    """The files of picks that the sets name, whether or not they are there yet."""
    return (each.choice.path for each in prompt_sets if each.choice.path is not None)


def stamp_files(paths: Iterable[Path]) -> Stamps:
    """The state of files. Call it before they are loaded, so that no edit is missed."""
    stamps = {path: (_stat(path), _sha256(path)) for path in paths}
    return {path: (*stat, digest) for path, (stat, digest) in stamps.items() if stat}


def _prompt_set_files(folder: Path) -> Iterator[Path]:
    for ending in ("*.yaml", "*.yml"):
        yield from folder.glob(ending)


def _stat(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_size, stat.st_mtime_ns


def _sha256(path: Path) -> str:
    try:
        if not path.is_file():  # a pipe would be waited for
            return ""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
