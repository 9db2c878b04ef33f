"""Runs the assets of one prompt set for real: Dagster, store, ledger, and the emulator's server."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from flux_pipeline.defs.build import build_definitions
from flux_pipeline.defs.keys import SetKeys
from flux_pipeline.defs.partitions import range_tags
from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from flux_pipeline.emulator.usage import Usage
from flux_pipeline.prompts import PromptSet, load_prompt_set
from flux_pipeline.resources import ImageProducer

HEAD = "model: lucataco/flux-schnell-lora\n"
INSTANT = EmulatorOptions(time_scale=0, render="cheap", creates_per_minute=None)

SLOW = EmulatorOptions(
    latency_median=600.0,
    latency_spread=0.0,
    render="cheap",
    creates_per_minute=None,
    calls_per_minute=None,
    retention_seconds=1e6,
)
"""No prediction ends before ``speed_up`` is called, however slow the machine is.

The trap: a prediction created after the first one has ended is first polled after ten minutes.
"""

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass
class AssetRunner:
    """One test's folder, server and prompt set. All tests of a process share the instance."""

    folder: Path
    instance: dg.DagsterInstance
    name: str
    stack: ExitStack
    options: EmulatorOptions = INSTANT
    limits: dict[str, Any] = field(default_factory=dict)
    """More fields of the resource."""
    _server: EmulatorServer | None = None
    _pace: tuple[float, float, float] = (0.0, 0.0, 1.0)
    """Since when the provider's clock has its pace, the clock's time then, and the pace."""

    @property
    def keys(self) -> SetKeys:
        return SetKeys(self.name)

    @property
    def server(self) -> EmulatorServer:
        return self._server or self.serve(FaultPlan())

    def serve(self, faults: FaultPlan, *, later: float = 0.0) -> EmulatorServer:
        """Start a server with these faults and the state of the one before it.

        Its clock is ``later`` seconds ahead.
        """
        server = EmulatorServer(
            self.options,
            faults,
            state_dir=self.folder / "emulator",
            clock=lambda: self._now() + later,
        )
        self._server = self.stack.enter_context(server)
        return self._server

    def speed_up(self, pace: float = 300.0) -> None:
        """Let the provider's clock run faster from now on."""
        self._pace = time.time(), self._now(), pace

    def _now(self) -> float:
        since, at, pace = self._pace
        return at + (time.time() - since) * pace

    def write(self, text: str) -> PromptSet:
        """Write (again) and load the prompt set's file."""
        path = self.folder / f"{self.name}.yaml"
        path.write_text(HEAD + text, encoding="utf-8")
        return load_prompt_set(path)

    @property
    def resource(self) -> ImageProducer:
        return ImageProducer(
            provider=self.server.origin,
            api_key="a-key",
            store=f"file:{self.folder}/store",
            ledger=f"sqlite:///{self.folder}/ledger.db",
            creates_per_minute=60_000,
            settle_seconds=0.0,
            **self.limits,
        )

    def definitions(self, *sets: PromptSet) -> dg.Definitions:
        return build_definitions(sets, self.resource)

    def run(
        self,
        prompt_set: PromptSet,
        *assets: str,
        keys: Sequence[str] | None = None,
        raise_on_error: bool = True,
        named: bool = True,
    ) -> dg.ExecuteInProcessResult:
        """Run the set's job for all or some of its assets, over a range of partitions.

        With ``named`` False the run names no partitions.
        """
        chosen = keys or prompt_set.partition_keys()
        selection = [dg.AssetKey([self.name, asset]) for asset in assets] or None
        partitioned = named and (not assets or assets != ("gallery",))
        tags = range_tags(dg.PartitionKeyRange(chosen[0], chosen[-1])) if partitioned else {}
        return (
            self.definitions(prompt_set)
            .resolve_job_def(self.keys.job)
            .execute_in_process(
                instance=self.instance,
                run_config=QUIET,
                tags=tags,
                asset_selection=selection,
                raise_on_error=raise_on_error,
            )
        )

    def event(self, asset: str, partition: str | None = None) -> dg.AssetMaterialization:
        """The latest materialization of an asset, or of one of its partitions."""
        key = dg.AssetKey([self.name, asset])
        wanted = dg.AssetRecordsFilter(key, asset_partitions=[partition] if partition else None)
        (record,) = self.instance.fetch_materializations(wanted, limit=1).records
        assert record.asset_materialization is not None
        return record.asset_materialization

    def metadata(self, asset: str, partition: str | None = None) -> dict[str, Any]:
        """The metadata of that event as plain values."""
        metadata = self.event(asset, partition).metadata
        return {name: value.value for name, value in metadata.items()}

    def statuses(self, prompt_set: PromptSet, asset: str = "images") -> dict[str, str]:
        """The status of every partition of an asset, as the UI would show it."""
        keys = list(prompt_set.partition_keys())
        statuses = self.instance.get_status_by_partition(
            dg.AssetKey([self.name, asset]), keys, dg.StaticPartitionsDefinition(keys)
        )
        found = {key: (statuses or {}).get(key) for key in keys}
        return {key: status.value if status else "MISSING" for key, status in found.items()}

    def usage(self) -> Usage:
        """What the provider has counted and charged."""
        return self.server.usage()


def checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    """Which checks a run evaluated, and whether they passed."""
    return {each.check_name: each.passed for each in result.get_asset_check_evaluations()}
