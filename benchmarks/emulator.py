"""The emulated provider of the benchmark, in a process of its own: no limits, cheap pictures."""

from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import serve

if __name__ == "__main__":
    serve(
        options=EmulatorOptions(
            render="cheap", latency_median=0.2, creates_per_minute=None, calls_per_minute=None
        )
    )
