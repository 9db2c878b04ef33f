"""Reports partitions of which every request has ended before, from the ledger alone.

The engine would come to the same reports, with an event loop, a client of the provider and threads
that decode pictures: most of what a run costs that has nothing to send.
"""

import time
from collections.abc import Iterable, Iterator, Sequence

from flux_pipeline.iteration import batched
from flux_pipeline.ledger.base import Attempt, Ledger
from flux_pipeline.lineage.record import records_from_json
from flux_pipeline.produce.core import produce
from flux_pipeline.produce.policy import Policy, RunContext
from flux_pipeline.produce.report import PartitionReport, Result
from flux_pipeline.request import Request

MOST_REQUESTS = 1_000
"""Of one run: more are not looked up twice to spare an engine where one of them has not ended."""
_BATCH = 500  # requests that are looked up in the ledger at once


def report_finished(
    partitions: Iterable[tuple[str, Iterable[Request]]],
    ledger: Ledger,
    *,
    run: RunContext,
    policy: Policy,
) -> Sequence[PartitionReport] | None:
    """Report every partition; None where a request has not ended, or its rows are not recorded.

    All results are held in memory. Raises LedgerError.
    """
    begun_at = time.monotonic()
    found: dict[str, list[Result]] = {}
    for batch in batched(_requests_of(partitions, found), _BATCH):
        latest = ledger.find([request.request_sha256 for _, request in batch])
        for partition, request in batch:
            attempt = latest.get(request.request_sha256)
            result = _find_result(request, attempt, run, policy)
            if attempt is None or not attempt.recorded or result is None:
                return None
            found[partition].append(result)
    seconds = time.monotonic() - begun_at
    return [
        PartitionReport(partition=partition, results=results, seconds=seconds)
        for partition, results in found.items()
    ]


def _requests_of(
    partitions: Iterable[tuple[str, Iterable[Request]]], found: dict[str, list[Result]]
) -> Iterator[tuple[str, Request]]:
    """Each request with its partition; one without any request is found too."""
    for partition, requests in partitions:
        found[partition] = []
        for request in requests:
            yield partition, request


def _find_result(
    request: Request, latest: Attempt | None, run: RunContext, policy: Policy
) -> Result | None:
    """How the request has ended; None where something would have to be done for it."""
    stage = produce(
        request,
        latest=latest,
        run=run,
        policy=policy,
        clock=time.monotonic,
        load_records=records_from_json,
    )
    try:
        next(stage)
    except StopIteration as ended:
        result: Result = ended.value
        return result
    return None
