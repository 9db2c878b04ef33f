"""The same bench as for producing: what is verified was produced before."""

from tests.produce.conftest import bench, open_bench

__all__ = ["bench", "open_bench"]
