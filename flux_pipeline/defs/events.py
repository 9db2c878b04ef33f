"""The events of one run of one prompt set, each for its own partition."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path

import dagster as dg

from flux_pipeline.defs.checks import CURRENT
from flux_pipeline.defs.data_versions import (
    Upstream,
    find_stale_partitions,
    find_upstream,
    images_version,
    version_tags,
)
from flux_pipeline.defs.keys import SetKeys, set_tags
from flux_pipeline.defs.metadata import (
    PREVIEW,
    images_line,
    images_metadata,
    prompts_line,
    prompts_metadata,
)
from flux_pipeline.defs.partitions import Content, read_contents, requests_by_partition
from flux_pipeline.defs.specs import GALLERY_VERSION, IMAGES_VERSION, prompts_version
from flux_pipeline.errors import FluxPipelineError
from flux_pipeline.gallery.build import build_gallery
from flux_pipeline.ledger.base import Budget
from flux_pipeline.produce.budgets import Limits
from flux_pipeline.produce.policy import RunContext
from flux_pipeline.produce.producer import Producer
from flux_pipeline.produce.report import PartitionReport
from flux_pipeline.prompts import ByDay, PromptSet
from flux_pipeline.prompts.git import find_commit
from flux_pipeline.resources import ImageProducer
from flux_pipeline.store.base import Store
from flux_pipeline.text import count_noun

COST_TAG = "flux/cost_usd"
"""Of a run: what it has spent or reserved, as of its latest line of progress, or of its end."""
ESTIMATE_TAG = "flux/estimate_usd"
"""Of a run: what it would cost if nothing of it were there yet."""
_MOST_NAMED = 20


@contextmanager
def reported_errors() -> Iterator[None]:
    """Show our own errors as they are: their messages say what to do, a stack trace does not.

    Raises:
        dagster.Failure: That nothing retries by itself.
    """
    try:
        yield
    except FluxPipelineError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error


@dataclass(frozen=True)
class SetEvents:
    """What one run has to say of prompts, images and gallery; of what is not selected, nothing."""

    prompt_set: PromptSet
    context: dg.AssetExecutionContext
    resource: ImageProducer
    spent: list[tuple[Budget, int]] = field(default_factory=list)
    """The run's budgets, and the millionths of a USD against each, once the images are made."""

    @cached_property
    def keys(self) -> SetKeys:
        """The asset keys of this prompt set."""
        return SetKeys(self.prompt_set.name)

    @cached_property
    def checks(self) -> Collection[dg.AssetCheckKey]:
        """The checks that the run was asked for.

        Raises:
            dagster.Failure: They were asked for without the images, and would pass unseen.
        """
        selected: Collection[dg.AssetCheckKey] = self.context.selected_asset_check_keys
        unseen = any(key.name != CURRENT for key in selected)
        if unseen and not self._selects(self.keys.images):
            raise dg.Failure(
                description="checks are evaluated while images are made: materialize"
                f" {self.keys.images.to_user_string()}, what is unchanged costs nothing",
                allow_retries=False,
            )
        return selected

    def unasked_checks(self) -> Sequence[dg.AssetCheckKey]:
        """CURRENT, where prompts are read alone: nobody asks for it, and it may break now."""
        alone = self.selects_prompts and not self.checks
        return [dg.AssetCheckKey(self.keys.images, CURRENT)] if alone else []

    @cached_property
    def store(self) -> Store:
        """Where everything lies."""
        return self.resource.open_store()

    def prompts(self) -> Iterator[dg.AssetMaterialization]:
        """Say what every partition asks for, and which are gone from the file."""
        if not self.selects_prompts:
            return
        self._tell_removed()
        for partition, content in self._contents.items():
            yield dg.AssetMaterialization(
                self.keys.prompts,
                partition=partition,
                description=prompts_line(partition, content),
                metadata=prompts_metadata(content),
                tags=version_tags(self._versions[partition], prompts_version(self.prompt_set)),
            )

    @contextmanager
    def reports(self) -> Iterator[Iterator[PartitionReport]]:
        """Make the images; give a report for every partition when it is finished.

        Raises:
            FluxPipelineError: At the start or the end of the block.
        """
        if not self._selects(self.keys.images):
            yield iter(())
            return
        budget = self.prompt_set.budget
        run = RunContext(
            run_id=self.context.run.run_id,
            asset=self.keys.images.to_user_string(),
            code_version=find_commit(Path(self.prompt_set.path)) if self.prompt_set.path else "",
        )
        limits = Limits(
            usd_per_run=budget.usd_per_run,
            usd_per_month=budget.usd_per_month,
            usd_per_day=self.resource.usd_per_day,
        )
        contents = self._contents.values()
        estimate = sum(content.usd for content in contents)
        self._tag({COST_TAG: "0", ESTIMATE_TAG: f"{estimate:.4f}"})
        requests = requests_by_partition(self.prompt_set, self._partitions)
        with self.resource.open() as producer:
            try:
                with producer.stream(
                    requests,
                    run=run,
                    limits=limits,
                    asked=sum(content.requests for content in contents),
                    expected=sum(content.images for content in contents),
                    say=partial(self._say, producer),
                ) as reports:
                    yield reports
            finally:
                self._tag_cost(producer)
            budgets = limits.budgets(
                run_id=run.run_id, prompt_set=self.prompt_set.name, now=datetime.now(UTC)
            )
            self.spent.extend((each, producer.ledger.spent_micros(each.scope)) for each in budgets)

    def images(self, report: PartitionReport) -> dg.AssetMaterialization:
        """Say what a finished partition came to."""
        used = self._prompts_used.tags(self._versions[report.partition])
        return dg.AssetMaterialization(
            self.keys.images,
            partition=report.partition,
            description=images_line(report),
            metadata={**self._earlier_preview(report), **images_metadata(report)},
            tags={**version_tags(images_version(report.records), IMAGES_VERSION), **used},
        )

    def failure(self, report: PartitionReport) -> dg.AssetObservation:
        """Say on a failed partition's own page why: else its reason is in the run's log alone."""
        return dg.AssetObservation(
            self.keys.images,
            partition=report.partition,
            description=f"failed: {images_line(report)}",
            metadata=images_metadata(report),
        )

    def behind(self) -> Sequence[str]:
        """Partitions of the set whose images are not of their prompts as they were read last."""
        if not (self.selects_prompts or self.checks):
            return []
        behind = set(
            find_stale_partitions(self.context.instance, self.keys.images, self.keys.prompts)
        )
        if not isinstance(self.prompt_set.partitions, ByDay):
            behind.intersection_update(self.prompt_set.partition_keys())
        return sorted(behind)

    def gallery(self) -> Iterator[dg.AssetMaterialization]:
        """Add what is new to the page of all that the set has ever made, and say where it lies."""
        if not self._selects(self.keys.gallery):
            return
        built = build_gallery(
            self.store,
            self.prompt_set.name,
            description=self.prompt_set.description,
            run_id=self.context.run.run_id,
            now=datetime.now(UTC),
        )
        used = find_upstream(self.context.instance, self.keys.images).tags(self.context.run.run_id)
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
        """Whether the prompts are read."""
        return self._selects(self.keys.prompts)

    def _selects(self, key: dg.AssetKey) -> bool:
        return key in self.context.selected_asset_keys

    @cached_property
    def _partitions(self) -> Sequence[str]:
        """Those of the run; where it names none, as ``dagster job execute`` may, all of the file.

        Raises:
            dagster.Failure: They are days, which never end.
        """
        if self.context.has_partition_key or self.context.has_partition_key_range:
            return list(self.context.partition_keys)
        if isinstance(self.prompt_set.partitions, ByDay):
            raise dg.Failure(
                description=f"{self.prompt_set.name} is made by day: name a day, or a range of"
                " days, as the run's partition",
                allow_retries=False,
            )
        return self.prompt_set.partition_keys()

    @cached_property
    def _contents(self) -> Mapping[str, Content]:
        return read_contents(self.prompt_set, self._partitions)

    @cached_property
    def _versions(self) -> Mapping[str, str]:
        return self.prompt_set.data_versions(self._partitions)

    @cached_property
    def _prompts_used(self) -> Upstream:
        return find_upstream(self.context.instance, self.keys.prompts)

    def _earlier_preview(self, report: PartitionReport) -> Mapping[str, dg.MetadataValue]:
        """Take over the pictures of the last event where nothing is new to be shown."""
        if any(result.thumbnail for result in report.results):
            return {}
        wanted = dg.AssetRecordsFilter(self.keys.images, asset_partitions=[report.partition])
        found = self.context.instance.fetch_materializations(wanted, limit=1).records
        event = found[0].asset_materialization if found else None
        return {PREVIEW: event.metadata[PREVIEW]} if event and PREVIEW in event.metadata else {}

    def _say(self, producer: Producer, line: str) -> None:
        self.context.log.info(line)
        self._tag_cost(producer)  # a run that is killed says nothing at its end

    def _tag_cost(self, producer: Producer) -> None:
        spent = producer.ledger.spent_micros(f"run:{self.context.run.run_id}")
        self._tag({COST_TAG: f"{spent / 1_000_000:.4f}"})

    def _tag(self, tags: Mapping[str, str]) -> None:
        """Tag the run: a re-execution has its parent's tags until it says otherwise."""
        named = set_tags(self.prompt_set)
        self.context.instance.add_run_tags(self.context.run.run_id, {**named, **tags})

    def _tell_removed(self) -> None:
        """Say once a run which materialized partitions the file has no more: the UI hides them."""
        if isinstance(self.prompt_set.partitions, ByDay):
            return
        made = self.context.instance.get_materialized_partitions(self.keys.images)
        gone = sorted(made.difference(self.prompt_set.partition_keys()))
        if gone:
            more = f" and {len(gone) - _MOST_NAMED} more" if len(gone) > _MOST_NAMED else ""
            named = f"{', '.join(gone[:_MOST_NAMED])}{more}"
            self.context.log.info("removed from the file: %s; the pictures stay", named)
            self.context.log_event(
                dg.AssetObservation(
                    self.keys.prompts,
                    description=f"removed: {named}; the pictures stay",
                    metadata={"flux/removed_partitions": dg.MetadataValue.json(gone)},
                )
            )
