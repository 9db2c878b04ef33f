"""The same pipeline as for producing: what is verified was produced before."""

from tests.produce.conftest import open_pipeline, pipeline

__all__ = ["open_pipeline", "pipeline"]
