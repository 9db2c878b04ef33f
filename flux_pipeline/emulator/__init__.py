"""The prediction API in a box: an ASGI server for embedded use, tests and benchmarks."""

from typing import TYPE_CHECKING

from flux_pipeline.lazy_names import lazy_names

if TYPE_CHECKING:
    from flux_pipeline.emulator.faults import FaultPlan
    from flux_pipeline.emulator.options import EmulatorOptions
    from flux_pipeline.emulator.server import EmulatorServer
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "EmulatorOptions": "flux_pipeline.emulator.options",
            "EmulatorServer": "flux_pipeline.emulator.server",
            "FaultPlan": "flux_pipeline.emulator.faults",
        },
    )

__all__ = ["EmulatorOptions", "EmulatorServer", "FaultPlan"]
