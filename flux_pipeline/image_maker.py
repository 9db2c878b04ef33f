"""Makes the images of a prompt set from Python, without a Dagster run and with the same guarantees.

``make_images`` shares ledger, store and lineage with Dagster's runs: what one has made, the other
finds and does not pay for again. Dagster shows no event of it until the asset is materialized,
which then costs nothing.
"""

import os
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from flux_pipeline.defs.partitions import known_partitions, requests_by_partition
from flux_pipeline.errors import ConfigError
from flux_pipeline.image_reader import HasPromptSet, begun_partitions, find_prompt_set
from flux_pipeline.lineage.asked import AskedRequests, asking
from flux_pipeline.produce.budgets import Limits, check_prices
from flux_pipeline.produce.policy import RunContext
from flux_pipeline.produce.report import Result
from flux_pipeline.produce.source_pictures import LedgerPictures
from flux_pipeline.prompts import PromptSet
from flux_pipeline.prompts.git import find_commit
from flux_pipeline.resources import ImageProducer
from flux_pipeline.settings import Settings, find_missing_key


def make_images(
    prompt_set: str | Path | PromptSet | HasPromptSet,
    partition: str | Collection[str] | None = None,
    *,
    producer: ImageProducer | None = None,
) -> Iterator[Result]:
    """Make the images of one partition, of several or of all; give each request's result.

    Paid once: what is stored is ``unchanged``, what was begun is resumed by its id, and what may
    have been paid and can't be proven is settled or held. Budgets of the set and the day hold. A
    result comes when its whole partition has ended and is in the lineage table; a request that
    failed is a result too, with its reason, and keeps no other back.

    ``prompt_set`` as for ``read_images``. ``producer``: provider, store and ledger, with the values
    of secrets; by default those of the FLUX_* variables. Whoever stops to iterate, or is
    interrupted, drains: what was accepted is noted, and the next call resumes it.

    Raises:
        ConfigError: There is no such prompt set or partition, or a setting is wrong; nothing was
            sent.
        StoreError: The store can't be used.
        LedgerError: The ledger can't be used.
    """
    resource = _configured() if producer is None else producer
    found = find_prompt_set(prompt_set)
    keys = [partition] if isinstance(partition, str) else partition
    chosen = list(begun_partitions(found) if keys is None else keys)
    # Read once before anything is opened: a partition that does not exist must not cost money.
    asked = sum(1 for _ in found.drafts(chosen))
    return _results(found, chosen, resource, asked)


def _configured() -> ImageProducer:
    settings = Settings.of_process(os.environ)
    if problem := find_missing_key(settings):
        raise ConfigError([problem])
    return ImageProducer.with_values(settings)


def _results(
    prompt_set: PromptSet, partitions: Sequence[str], resource: ImageProducer, asked: int
) -> Iterator[Result]:
    run = RunContext(
        run_id=str(uuid4()),
        asset=f"{prompt_set.name}/images",
        code_version=find_commit(Path(prompt_set.path)) if prompt_set.path else "",
    )
    limits = Limits(
        usd_per_run=prompt_set.budget.usd_per_run,
        usd_per_month=prompt_set.budget.usd_per_month,
        usd_per_day=resource.usd_per_day,
    )
    check_prices(limits, prompt_set.models)
    noted = AskedRequests()
    now = datetime.now(UTC)
    with (
        resource.open() as producer,
        asking(producer.store, prompt_set.name, run_id=run.run_id, now=now),
    ):
        pictures = LedgerPictures(producer.ledger)  # of the set that a chain follows
        requests = noted.watch(requests_by_partition(prompt_set, partitions, pictures))
        with producer.stream(requests, run=run, limits=limits, asked=asked) as reports:
            for report in reports:
                yield from report.results
        noted.close(partitions)
        noted.write(
            producer.store,
            prompt_set.name,
            known=known_partitions(prompt_set),
            run_id=run.run_id,
            now=datetime.now(UTC),
        )
