"""Records hold what their request was: they can be traced back to it."""

from dataclasses import replace

from flux_pipeline.lineage.record import ImageStatus
from flux_pipeline.produce.policy import RunContext
from flux_pipeline.produce.records import build_record, source_of
from flux_pipeline.request import Source
from tests.produce.pipeline import make_requests


def test_the_source_of_a_record_is_that_of_its_request() -> None:
    (request,) = make_requests(1)
    source = Source("winter", "a-castle", 3, "2026-11-30", "configs/winter.yaml", "f" * 64)

    record = build_record(
        replace(request, source=source), RunContext("run-1"), index=0, status=ImageStatus.STORED
    )

    assert source_of(record) == source
