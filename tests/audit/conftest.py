"""Fixtures: the pipelines of the producer's tests, which make what is audited."""

from tests.produce.conftest import open_pipeline, pipeline

__all__ = ["open_pipeline", "pipeline"]
