"""Provider, ledger, store and lineage table, held against each other.

Nothing is written. While runs are at work the four are never at one moment; the order of reading
(store, ledger, provider, lineage, and the store again) lets what is under way pass for what it is.
"""

import time
from collections.abc import Callable, Iterator

import anyio

from flux_pipeline.audit.belonging import noted_elsewhere
from flux_pipeline.audit.census import IMAGES, Census, Known
from flux_pipeline.audit.findings import Finding, Kind, Verification
from flux_pipeline.audit.listed import REACH_SECONDS, ListCheck
from flux_pipeline.audit.rereading import Progress, ignore, reread
from flux_pipeline.audit.surveying import survey_ledger, survey_lineage
from flux_pipeline.produce.producer import Producer


def verify(
    producer: Producer,
    *,
    deep: bool = False,
    progress: Progress = ignore,
    now: Callable[[], float] = time.time,
) -> Verification:
    """Compare all that was paid with all that is there; ``deep`` also reads every object.

    Memory grows with the findings alone. ``progress`` is called with the number of objects read
    and of all; ``now`` gives unix seconds.

    Raises:
        StoreError, LedgerError: Where one of them can't be asked at all.
    """
    store, ledger = producer.store, producer.ledger
    with Census() as census:
        census.add_stored(store.list(IMAGES))
        result = Verification(images=census.count())
        since = now() - REACH_SECONDS
        result.findings.extend(
            survey_ledger(ledger.attempts(), census, store_uri=store.uri, listed_since=since)
        )
        _compare_list(producer, census, result, now())
        result.findings.extend(survey_lineage(store, census))
        census.add_stored_meanwhile(store.list(IMAGES))
        missing = list(_compare(census))
        if missing and (elsewhere := noted_elsewhere(ledger, store)):
            result.notes.append(elsewhere)
        result.findings.extend(missing)
        if deep:
            for done, wrong in enumerate(reread(store, census.stored()), 1):
                result.findings.extend(wrong)
                progress(done, result.images)
    return result


def _compare_list(producer: Producer, census: Census, result: Verification, now: float) -> None:
    check = ListCheck(producer.ledger, census)

    async def run() -> None:
        async with producer.open_provider() as provider:
            await check.run(provider, now=now)

    anyio.run(run)
    result.findings.extend(check.findings)
    result.notes.extend(check.notes)
    result.complete = check.complete


def _compare(census: Census) -> Iterator[Finding]:
    """Hold the three sides of the census against each other."""
    for known in census.missing():
        yield Finding(Kind.LOST, known.key, f"{_who(known)} it is stored, and it is not; {_BACK}")
    for known in census.orphaned():
        yield Finding(Kind.ORPHANED, known.key, _orphaned(known))
    for known in census.contradictory():
        what = "ledger and lineage have recorded different hashes; `flux-pipeline verify --deep`"
        yield Finding(Kind.WRONG_HASH, known.key, f"{what} says which one is right")


def _who(known: Known) -> str:
    if known.ledger_file is None:
        return "the lineage says that"
    return "the ledger says that" if known.lineage_file is None else "ledger and lineage say that"


def _orphaned(known: Known) -> str:
    if known.ledger_file is None and known.lineage_file is None:
        return "neither ledger nor lineage knows it; `flux-pipeline reindex` enters it in both"
    if known.ledger_file is None:
        return "the ledger doesn't know it; `flux-pipeline reindex` enters it"
    if known.recorded:
        return "its lineage row is gone; `flux-pipeline reindex` writes it again"
    return (
        "it has no lineage row yet; a run under way writes it at its end, otherwise"
        " `flux-pipeline rescue` does"
    )


_BACK = "restore it from a backup of the store, or ask for it anew with another seed or take"
