"""The asset `<set>/published`: delivers the chosen images of a run's partitions, with an index.

A step of its own behind that of the images: a target that is away costs no image, and publishing
again asks no provider. What is there of a partition is published, also where a request of it
failed; the partition counts as published once all of it is there.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import dagster as dg

from flux_pipeline.defs.data_versions import (
    DATA_VERSION,
    Upstream,
    find_target,
    find_upstream,
    find_versions,
    version_tags,
)
from flux_pipeline.defs.downstream import output_without_event
from flux_pipeline.defs.events import reported_errors
from flux_pipeline.defs.keys import SetKeys
from flux_pipeline.defs.metadata import PREVIEW, PREVIEWS, Metadata, previews
from flux_pipeline.defs.partitions import build_backfill_policy, known_partitions, run_partitions
from flux_pipeline.defs.published_checks import (
    Published,
    build_published_check_specs,
    run_published_checks,
)
from flux_pipeline.defs.specs import build_published_spec, published_version
from flux_pipeline.errors import ImageError
from flux_pipeline.produce.report import current_follower
from flux_pipeline.prompts import PromptSet
from flux_pipeline.resources import ImageProducer
from flux_pipeline.text import count_noun, first_of, safe_text

if TYPE_CHECKING:
    from flux_pipeline.publish.index import Entry
    from flux_pipeline.store.target import Target

_MOST_NAMED = 20
_MOST_PREVIEWS = 12
_MOST_ROWS = 20
"""Files of the table in an event; the index has all."""
_PROGRESS = 500
"""Images between two lines of the log."""
_COLUMNS = dg.TableSchema(
    [
        dg.TableColumn("path", "string", "Below the target."),
        dg.TableColumn("size", "string", "px"),
        dg.TableColumn("bytes", "int"),
    ]
)


def build_published(prompt_set: PromptSet) -> dg.AssetsDefinition:
    """Build the asset of a set with ``publish``, with its checks."""
    key = SetKeys(prompt_set.name).published

    @dg.multi_asset(
        name=key.to_python_identifier(),
        specs=[build_published_spec(prompt_set)],
        check_specs=build_published_check_specs(key),
        can_subset=True,
        required_resource_keys={"image_producer"},
        backfill_policy=build_backfill_policy(prompt_set),
    )
    def publish(context: dg.AssetExecutionContext) -> Any:
        with reported_errors():
            yield from PublishedEvents(prompt_set, context).publish()

    return publish


@dataclass(slots=True)
class PublishProgress:
    """How far publishing is, for the run's log and for the command line, which shows it."""

    prompt_set: str
    images: int
    log: logging.Logger
    done: int = 0
    is_waiting: bool = False

    def add(self, done: int, _images: int) -> None:
        """Note how many images are done."""
        self.done, self.is_waiting = done, False
        if done % _PROGRESS == 0:
            self.log.info("%s", *self.waiting())

    def wait(self) -> None:
        """Note that another publisher is at work on the same target."""
        self.is_waiting = True
        self.log.info("%s", *self.waiting())

    def waiting(self) -> list[str]:
        """What is waited for now."""
        if self.is_waiting:
            return [f"another publisher of {self.prompt_set} is at work"]
        return [
            f"publishing {self.prompt_set}: {self.done:,} of {count_noun(self.images, 'image')}"
        ]


@dataclass(slots=True)
class Part:
    """What came of one partition."""

    partition: str
    index: "Mapping[str, Entry]"
    """The whole index, by name, which is read from disk."""
    names: list[str] = field(default_factory=list)
    """Of its chosen images that are in the index."""
    failed: dict[str, str] = field(default_factory=dict)
    """Chosen images that could not be delivered, and why."""
    is_unmade: bool = False
    """Whether an image of it is still to come."""

    @property
    def problem(self) -> str:
        """Why it doesn't count as published; empty where it does."""
        first = next((f"{name}: {why}" for name, why in self.failed.items()), "")
        return first or ("not all of its images are there" if self.is_unmade else "")

    @property
    def entries(self) -> "Iterator[Entry]":
        """Its images, as they stand in the index."""
        return (self.index[name] for name in self.names)

    @property
    def files(self) -> Iterator[Mapping[str, Any]]:
        """Its files, as the index describes them."""
        return (file for entry in self.entries for file in entry.values()["files"])

    def version(self) -> str:
        """The data version: a hash of all that a reader of the index sees of it."""
        found = hashlib.sha256()
        for number, entry in enumerate(self.entries):
            found.update(b"\n" * bool(number) + entry.line)
        return found.hexdigest()

    def line(self) -> str:
        """The description of its event."""
        files = sum(len(entry.paths) for entry in self.entries)
        images = count_noun(len(self.names), "image")
        said = f"{self.partition}: {images}, {count_noun(files, 'file')}"
        return f"{said}; {safe_text(self.problem)}" if self.problem else said

    def facts(self) -> Metadata:
        """Counts, and a table of the first files."""
        sizes = [file["bytes"] for file in self.files]
        rows = [
            dg.TableRecord(
                {
                    "path": safe_text(file["path"]),
                    "size": f"{file['width']}\N{MULTIPLICATION SIGN}{file['height']}",
                    "bytes": file["bytes"],
                }
            )
            for file in islice(self.files, _MOST_ROWS)
        ]
        table = dg.MetadataValue.table(rows, schema=_COLUMNS)
        return {
            **({"flux/file_table": table} if rows else {}),
            "dagster/row_count": len(self.names),
            "dagster/size_bytes": sum(sizes),
            "flux/files": len(sizes),
        }


@dataclass(frozen=True)
class PublishedEvents:
    """Publishes the partitions of one run, and gives its events."""

    prompt_set: PromptSet
    context: dg.AssetExecutionContext

    def publish(self) -> Iterator[Any]:
        """Publish; an event for each partition, then those of the checks.

        Raises:
            FluxPipelineError: Nothing can be published. The index that is there stays true.
            dagster.Failure: A chosen image could not be delivered; or nothing is there, and this
                run doesn't make it. After the events.
        """
        self._refuse_checks_alone()
        published = self._deliver()
        self.context.log.info("%s; %s", published.report.line(), published.report.index_uri)
        parts = self._parts(published)
        for part in parts:
            yield self._event(part, published)
        target = find_target(self.context.instance, self._keys.published)
        yield from run_published_checks(self.context.selected_asset_check_keys, published, target)
        self._raise_failure(parts)
        yield output_without_event(self._keys.published)

    def _refuse_checks_alone(self) -> None:
        if self._keys.published not in self.context.selected_asset_keys:
            raise dg.Failure(
                description="checks are evaluated while images are published: materialize"
                f" {self._keys.published.to_user_string()}, what is unchanged costs nothing",
                allow_retries=False,
            )

    def _deliver(self) -> Published:
        from flux_pipeline.publish.publisher import prepare_set

        resource: ImageProducer = self.context.resources.image_producer
        known = known_partitions(self.prompt_set)
        is_all = known is not None and set(known) <= set(self._partitions)
        prepared = prepare_set(
            self.prompt_set,
            # All at once also takes away what is of no partition any more.
            None if is_all else self._partitions,
            publishing=resource.open_publishing(),
        )
        progress = PublishProgress(
            self.prompt_set.name, len(prepared.selection.images), self.context.log
        )
        current_follower()(progress)
        report = prepared.deliver(on_progress=progress.add, on_wait=progress.wait)
        return Published(prepared, report, prepared.read_entries(), self.context.run.run_id)

    def _parts(self, published: Published) -> Sequence[Part]:
        selection, failed = published.prepared.selection, published.report.failed
        index, unmade = published.entries, selection.unmade
        parts = {key: Part(key, index, is_unmade=key in unmade) for key in self._partitions}
        for image in selection.images:
            part = parts[image.partition]
            if image.name in failed:
                part.failed[image.name] = failed[image.name]
            elif image.name in index:
                part.names.append(image.name)
        return list(parts.values())

    def _event(
        self, part: Part, published: Published
    ) -> dg.AssetMaterialization | dg.AssetObservation:
        """A materialization, or an observation where the partition isn't published in full."""
        report = published.report
        places = {
            "flux/index_uri": report.index_uri,  # the UI's overview leaves dagster/uri out
            "dagster/uri": report.uri,
        }
        if part.problem:
            return dg.AssetObservation(
                self._keys.published,
                partition=part.partition,
                description=part.line(),
                metadata={**places, **part.facts()},
            )
        shown = self._previews(part, published.prepared.target)
        return dg.AssetMaterialization(
            self._keys.published,
            partition=part.partition,
            description=part.line(),
            metadata={**shown, **places, **part.facts()},
            tags={
                **version_tags(part.version(), self._code_version),
                **self._images_used.tags(self._images_versions.get(part.partition, "")),
            },
        )

    def _previews(self, part: Part, target: "Target") -> Metadata:
        """The pictures of the partition's last event where nothing is another, else new ones."""
        wanted = dg.AssetRecordsFilter(self._keys.published, asset_partitions=[part.partition])
        found = self.context.instance.fetch_materializations(wanted, limit=1).records
        event = found[0].asset_materialization if found else None
        if event is not None and (event.tags or {}).get(DATA_VERSION) == part.version():
            return {
                key: event.metadata[key] for key in (PREVIEW, PREVIEWS) if key in event.metadata
            }
        return dict(previews(list(_thumbnails(part, target))))

    def _raise_failure(self, parts: Sequence[Part]) -> None:
        failed = {name: why for part in parts for name, why in part.failed.items()}
        if failed:
            headline = f"{count_noun(len(failed), 'chosen image')} could not be delivered"
            named = [safe_text(f"{name}: {why}") for name, why in failed.items()]
            raise dg.Failure(
                description="\n".join([headline, *named[:_MOST_NAMED]]),
                metadata={"flux/undelivered_images": dg.MetadataValue.json(failed)},
                allow_retries=False,
            )
        unmade = [part.partition for part in parts if part.is_unmade]
        if not unmade:
            return
        names = first_of(unmade, _MOST_NAMED)
        is_alone = self._keys.images not in self.context.job_def.asset_layer.selected_asset_keys
        if is_alone and not any(part.names for part in parts):
            raise dg.Failure(
                description=f"{self._keys.images.to_user_string()}: nothing is there of {names}:"
                " materialize it first",
                allow_retries=False,
            )
        self.context.log.warning("not published in full, for images are missing: %s", names)

    @cached_property
    def _keys(self) -> SetKeys:
        return SetKeys(self.prompt_set.name)

    @cached_property
    def _partitions(self) -> Sequence[str]:
        return run_partitions(self.context, self.prompt_set)

    @cached_property
    def _code_version(self) -> str:
        return published_version(self.prompt_set)

    @cached_property
    def _images_used(self) -> Upstream:
        return find_upstream(self.context.instance, self._keys.images)

    @cached_property
    def _images_versions(self) -> Mapping[str, str]:
        return find_versions(self.context.instance, self._keys.images)


def _thumbnails(part: Part, target: "Target") -> Iterator[tuple[str, bytes]]:
    """Names and small pictures of the first images, of the smallest file of each."""
    from flux_pipeline.images.inspection import MAX_PIXELS, decode_anything, thumbnail

    for entry in islice(part.entries, _MOST_PREVIEWS):
        smallest = min(entry.values()["files"], key=lambda file: int(file["bytes"]))
        found = target.read(smallest["path"])
        with suppress(ImageError):  # a check tells it
            if found is not None:
                yield entry.name, thumbnail(decode_anything(found[0], max_pixels=MAX_PIXELS))
