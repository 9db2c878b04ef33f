"""The events of one run of one prompt set: materializations and observations, each of a partition.

``SetEvents`` also makes the images: its ``reports`` gives a report for each finished partition.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from flux_pipeline.defs.checks import CHECKS, CURRENT
from flux_pipeline.defs.data_versions import (
    Target,
    Upstream,
    find_latest,
    find_stale_partitions,
    find_target,
    find_upstream,
    find_versions,
    images_version,
    upstream_of,
    version_tags,
)
from flux_pipeline.defs.keys import SHARED_TAG, SetKeys, set_tags
from flux_pipeline.defs.metadata import (
    PREVIEW,
    images_line,
    images_metadata,
    prompts_line,
    prompts_metadata,
)
from flux_pipeline.defs.partitions import (
    Content,
    known_partitions,
    read_contents,
    requests_by_partition,
    run_partitions,
)
from flux_pipeline.defs.run_summary import Outcome
from flux_pipeline.defs.specs import GALLERY_VERSION, IMAGES_VERSION, prompts_version
from flux_pipeline.errors import FluxPipelineError
from flux_pipeline.gallery.selection import read_selection
from flux_pipeline.iteration import batched
from flux_pipeline.ledger.base import Budget, Ledger
from flux_pipeline.produce.budgets import Limits, check_prices
from flux_pipeline.produce.followers import Follower, Followers
from flux_pipeline.produce.policy import RunContext
from flux_pipeline.produce.report import PartitionReport, current_observer
from flux_pipeline.produce.source_pictures import LedgerPictures
from flux_pipeline.prompts import ByDay, PromptSet
from flux_pipeline.prompts.git import find_commit
from flux_pipeline.resources import ImageProducer
from flux_pipeline.settings import is_emulated
from flux_pipeline.store.base import Store
from flux_pipeline.text import count_noun, first_of

if TYPE_CHECKING:
    from flux_pipeline.lineage.asked import Asked, AskedRequests
    from flux_pipeline.produce.producer import Producer

COST_TAG = "flux/cost_usd"
"""The run's tag with the USD spent or reserved, updated with every line of progress."""
ESTIMATE_TAG = "flux/estimate_usd"
"""The run's tag with the USD that it would cost if nothing of it were made yet."""
_MOST_NAMED = 20
_MOST_AT_ONCE = 100
"""Partitions of one group of events."""


def grouped_writes(instance: dg.DagsterInstance) -> AbstractContextManager[None]:
    """A block whose events are written in a few transactions, where the instance's storage can.

    ``SqliteEvents`` can. It is not imported here: it needs more of Dagster than its public names,
    and runs on another storage go on without it.
    """
    group = getattr(instance.event_log_storage, "grouped_writes", nullcontext)
    found: AbstractContextManager[None] = group()
    return found


@contextmanager
def reported_errors() -> Iterator[None]:
    """Turn our own errors into failures without a stack trace: their messages say what to do.

    Raises:
        dagster.Failure: Dagster does not retry it.
    """
    try:
        yield
    except FluxPipelineError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error


@dataclass(frozen=True)
class SetEvents:
    """The events of one run for prompts, images and gallery; none for an asset not selected."""

    prompt_set: PromptSet
    context: dg.AssetExecutionContext | dg.OpExecutionContext
    resource: ImageProducer
    followers: Sequence[PromptSet] = ()
    """The sets that are made for this one's pictures, in any number of steps."""
    takes_all: bool = False
    """Whether the run takes all assets, checks and partitions, instead of what it has selected."""
    spent: list[tuple[Budget, int]] = field(default_factory=list)
    """The run's budgets with the millionths of a USD spent of each, once the images are made."""

    @cached_property
    def keys(self) -> SetKeys:
        """The asset keys of this prompt set."""
        return SetKeys(self.prompt_set.name)

    @cached_property
    def checks(self) -> Collection[dg.AssetCheckKey]:
        """The checks that the run has selected.

        Raises:
            dagster.Failure: They are selected without the images: they would have nothing to check.
        """
        if self.takes_all:
            return [dg.AssetCheckKey(self.keys.images, name) for name in CHECKS]
        selected: Collection[dg.AssetCheckKey] = self.context.selected_asset_check_keys
        needs_images = any(key.name != CURRENT for key in selected)
        if needs_images and not self._selects(self.keys.images):
            raise dg.Failure(
                description="checks are evaluated while images are made: materialize"
                f" {self.keys.images.to_user_string()}, what is unchanged costs nothing",
                allow_retries=False,
            )
        return selected

    def implied_checks(self) -> Sequence[dg.AssetCheckKey]:
        """CURRENT where only prompts are selected: reading them may make images stale."""
        alone = self.selects_prompts and not self.checks
        return [dg.AssetCheckKey(self.keys.images, CURRENT)] if alone else []

    @cached_property
    def target(self) -> Target | None:
        """The latest event of the images; for when those of this run are there."""
        return find_target(self.context.instance, self.keys.images)

    @cached_property
    def store(self) -> Store:
        """The open store."""
        return self.resource.open_store()

    def prompts(self) -> Iterator[dg.AssetMaterialization]:
        """Materialize the prompts of each partition; report partitions removed from the file."""
        if not self.selects_prompts:
            return
        if not self._selects(self.keys.images) and not self.prompt_set.sources:
            self._note_asked()  # else with the images: of a chain only those tell its requests
        self._report_removed()
        for partition, content in self._contents.items():
            yield dg.AssetMaterialization(
                self.keys.prompts,
                partition=partition,
                description=prompts_line(
                    partition, content, emulated=is_emulated(self.resource.provider)
                ),
                metadata=prompts_metadata(content),
                tags=version_tags(content.data_version, prompts_version(self.prompt_set)),
            )

    @contextmanager
    def reports(self) -> Iterator[Iterator[Sequence[PartitionReport]]]:
        """Make the images; give the reports of the partitions that are finished, as they come.

        Raises:
            FluxPipelineError: At the start or the end of the block.
        """
        if not self._selects(self.keys.images):
            yield iter(())
            return
        run, limits = self._run_of(self.prompt_set), self._limits_of(self.prompt_set)
        estimate = sum(content.usd for content in self._contents.values())
        self._tag({COST_TAG: "0", ESTIMATE_TAG: f"{estimate:.4f}"})
        finished = self._finished(run)
        if finished is not None:
            yield batched(finished, _MOST_AT_ONCE)
        else:
            with self._made(run, limits) as reports:
                yield reports
        budgets = limits.budgets(
            run_id=run.run_id, prompt_set=self.prompt_set.name, now=datetime.now(UTC)
        )
        with self.resource.open_ledger() as ledger:
            self.spent.extend((each, ledger.spent_micros(each.scope)) for each in budgets)

    def _finished(self, run: RunContext) -> Sequence[PartitionReport] | None:
        """The reports of a run for which nothing has to be done; None for any other.

        Also None where ledger or store can't be used: making the images then says what is wrong.
        """
        from flux_pipeline.lineage.asked import AskedRequests
        from flux_pipeline.produce.finished import MOST_REQUESTS, report_finished

        count = sum(content.requests for content in self._contents.values())
        if count > MOST_REQUESTS or self.prompt_set.sources or self.followers:
            return None
        noted = AskedRequests()
        try:
            with self.resource.open_ledger_and_store() as (ledger, store), self._asking(store):
                requests = noted.watch(requests_by_partition(self.prompt_set, self._partitions))
                reports = report_finished(requests, ledger, run=run, policy=self.resource.policy)
                if reports is not None:
                    noted.close(self._partitions)
                    self._write_asked(noted)
                    self._tag_cost(ledger)  # a run that is resumed has spent something before
        except FluxPipelineError:
            return None
        observe = current_observer()
        for report in reports or ():
            for result in report.results:
                observe(result)
        return reports

    @contextmanager
    def _made(
        self, run: RunContext, limits: Limits
    ) -> Iterator[Iterator[Sequence[PartitionReport]]]:
        """Make what is missing of the images; as ``reports``."""
        from flux_pipeline.lineage.asked import AskedRequests

        contents = self._contents.values()
        with self.resource.open() as producer, self._asking(producer.store):
            noted = AskedRequests()
            requests = noted.watch(
                requests_by_partition(
                    self.prompt_set, self._partitions, LedgerPictures(producer.ledger)
                )
            )
            given_up = False
            try:
                with producer.stream(
                    requests,
                    run=run,
                    limits=limits,
                    asked=sum(content.requests for content in contents),
                    expected=sum(content.images for content in contents),
                    say=partial(self._log_progress, producer),
                    followers=self._followers_in_run(),
                ) as reports:
                    yield reports.groups()
                noted.close(self._partitions)
            except GeneratorExit:
                given_up = True
                raise
            finally:
                # Dagster gives a step up where its own database fails: nothing is written there.
                if not given_up:
                    self._tag_cost(producer.ledger)
                self._write_asked(noted)

    def _asking(self, store: Store) -> AbstractContextManager[None]:
        """Say that what is asked for is being read, so that nothing of it is pruned meanwhile."""
        from flux_pipeline.lineage.asked import asking

        run_id = self.context.run.run_id
        return asking(store, self.prompt_set.name, run_id=run_id, now=datetime.now(UTC))

    def _note_asked(self) -> None:
        """Write down what the partitions ask for, which makes images current or obsolete."""
        from flux_pipeline.lineage.asked import AskedRequests

        noted = AskedRequests()
        for _, requests in noted.watch(requests_by_partition(self.prompt_set, self._partitions)):
            for _ in requests:
                pass
        noted.close(self._partitions)
        self._write_asked(noted)

    def _write_asked(self, noted: "AskedRequests") -> None:
        noted.write(
            self.resource.open_pages(),
            self.prompt_set.name,
            known=known_partitions(self.prompt_set),
            run_id=self.context.run.run_id,
            now=datetime.now(UTC),
        )

    def _run_of(self, prompt_set: PromptSet) -> RunContext:
        return RunContext(
            run_id=self.context.run.run_id,
            asset=SetKeys(prompt_set.name).images.to_user_string(),
            code_version=find_commit(Path(prompt_set.path)) if prompt_set.path else "",
        )

    def _limits_of(self, prompt_set: PromptSet) -> Limits:
        limits = Limits(
            usd_per_run=prompt_set.budget.usd_per_run,
            usd_per_month=prompt_set.budget.usd_per_month,
            usd_per_day=self.resource.usd_per_day,
        )
        check_prices(limits, prompt_set.models)
        return limits

    def _followers_in_run(self) -> Followers:
        """The sets that follow and whose images this run makes too, in steps of their own."""
        if not self.followers:
            return Followers([])
        selected = self.context.job_def.asset_layer.selected_asset_keys
        return Followers(
            [
                Follower(each, self._run_of(each), self._limits_of(each))
                for each in self.followers
                if SetKeys(each.name).images in selected
            ]
        )

    def images(
        self, reports: Sequence[PartitionReport], outcome: Outcome
    ) -> Iterator[dg.AssetMaterialization | dg.AssetObservation]:
        """Materialize the images of finished partitions, or say why they are not made."""
        previews = self._earlier_previews(reports)
        for report in reports:
            if outcome.add(report):
                yield self._materialization(report, previews.get(report.partition, {}))
            else:
                yield self._failure(report)

    def _materialization(
        self, report: PartitionReport, preview: Mapping[str, dg.MetadataValue]
    ) -> dg.AssetMaterialization:
        used = {
            **self._prompts_used.tags(self._contents[report.partition].data_version),
            **self._sources_used(report.partition),
        }
        return dg.AssetMaterialization(
            self.keys.images,
            partition=report.partition,
            description=images_line(report),
            metadata={**preview, **images_metadata(report)},
            tags={**version_tags(images_version(report.records), IMAGES_VERSION), **used},
        )

    def _failure(self, report: PartitionReport) -> dg.AssetObservation:
        """Observe a partition that is not made: its page shows the reason, not the log alone."""
        is_failed = report.tally.failed or report.tally.held or not report.tally.unsent
        return dg.AssetObservation(
            self.keys.images,
            partition=report.partition,
            description=f"{'failed' if is_failed else 'not all sent'}: {images_line(report)}",
            metadata=images_metadata(report),
        )

    def stale_partitions(self) -> Sequence[str]:
        """The set's partitions whose images were made from other prompts than were read last."""
        if not (self.selects_prompts or self.checks):
            return []
        stale = set(
            find_stale_partitions(self.context.instance, self.keys.images, self.keys.prompts)
        )
        if not isinstance(self.prompt_set.partitions, ByDay):
            stale.intersection_update(self.prompt_set.partition_keys())
        return sorted(stale)

    def gallery(self, asked: "Asked | None" = None) -> Iterator[dg.AssetMaterialization]:
        """Add new images to the page of all that the set has ever made, and materialize it.

        ``asked`` is what all sets ask for, where it was read after this one's images were made.
        """
        if not self._selects(self.keys.gallery):
            return
        from flux_pipeline.gallery.build import build_gallery

        built = build_gallery(
            self.resource.open_pages(),
            self.prompt_set.name,
            description=self.prompt_set.description,
            run_id=self.context.run.run_id,
            selection=read_selection(self.prompt_set),
            asked=asked,
            now=datetime.now(UTC),
        )
        used = upstream_of(self.keys.images, self.target).tags(self.context.run.run_id)
        yield dg.AssetMaterialization(
            self.keys.gallery,
            description=f"{count_noun(built.summary.stored, 'image')} on {built.uri}",
            metadata={
                "flux/page_uri": built.uri,  # the UI's overview leaves dagster/uri out
                "dagster/uri": built.uri,
                "dagster/row_count": built.summary.stored,
                "dagster/size_bytes": built.size,
                "flux/missing_images": built.summary.missing,
                "flux/read_parts": built.parts_read,
                "flux/written_files": built.files_written,
            },
            tags={**version_tags(built.images_version, GALLERY_VERSION), **used},
        )

    @property
    def selects_prompts(self) -> bool:
        """Whether the run reads the prompts."""
        return self._selects(self.keys.prompts)

    def _selects(self, key: dg.AssetKey) -> bool:
        return self.takes_all or key in self.context.selected_asset_keys

    @cached_property
    def _partitions(self) -> Sequence[str]:
        if self.takes_all:
            return self.prompt_set.partition_keys()
        return run_partitions(self.context, self.prompt_set)

    @cached_property
    def _contents(self) -> Mapping[str, Content]:
        return read_contents(self.prompt_set, self._partitions)

    @cached_property
    def _prompts_used(self) -> Upstream:
        return find_upstream(self.context.instance, self.keys.prompts)

    def _sources_used(self, partition: str) -> Mapping[str, str]:
        """Tags that say which images of the sets before this one were used."""
        tags: dict[str, str] = {}
        for upstream, versions in self._sources:
            tags |= upstream.tags(versions.get(partition, versions.get("", "")))
        return tags

    @cached_property
    def _sources(self) -> Sequence[tuple[Upstream, Mapping[str, str]]]:
        """The images of each set before this one: the latest event, and versions by partition."""
        found = []
        for source in self.prompt_set.sources.values():
            images = SetKeys(source.name).images
            upstream = find_upstream(self.context.instance, images)
            is_followed = source is self.prompt_set.follows
            versions = find_versions(self.context.instance, images) if is_followed else {}
            found.append((upstream, versions))
        return found

    def _earlier_previews(
        self, reports: Sequence[PartitionReport]
    ) -> Mapping[str, Mapping[str, dg.MetadataValue]]:
        """By partition the preview of its last event, of those that have no new one in this run."""
        without = [
            report.partition
            for report in reports
            if not any(result.thumbnail for result in report.results)
        ]
        return {
            partition: {PREVIEW: event.metadata[PREVIEW]}
            for partition, record in find_latest(
                self.context.instance, self.keys.images, without
            ).items()
            if (event := record.asset_materialization) and PREVIEW in event.metadata
        }

    def _log_progress(self, producer: "Producer", line: str) -> None:
        self.context.log.info(line)
        self._tag_cost(producer.ledger)  # with every line, because a run that is killed has no end

    def _tag_cost(self, ledger: Ledger) -> None:
        spent = ledger.spent_micros(f"run:{self.context.run.run_id}")
        self._tag({COST_TAG: f"{spent / 1_000_000:.4f}"})

    def _tag(self, tags: Mapping[str, str]) -> None:
        """Tag the run, also with the set's tags: a re-execution has copied those of its parent."""
        if SHARED_TAG in self.context.run.tags:  # each set would write over those of another
            return
        named = set_tags(self.prompt_set)
        self.context.instance.add_run_tags(self.context.run.run_id, {**named, **tags})

    def _report_removed(self) -> None:
        """Observe the materialized partitions that the file has no more: the UI hides them."""
        if isinstance(self.prompt_set.partitions, ByDay):
            return
        made = self.context.instance.get_materialized_partitions(self.keys.images)
        gone = sorted(made.difference(self.prompt_set.partition_keys()))
        if gone:
            named = first_of(gone, _MOST_NAMED)
            self.context.log.info("removed from the file: %s; the pictures stay", named)
            self.context.log_event(
                dg.AssetObservation(
                    self.keys.prompts,
                    description=f"removed: {named}; the pictures stay",
                    metadata={"flux/removed_partitions": dg.MetadataValue.json(gone)},
                )
            )
