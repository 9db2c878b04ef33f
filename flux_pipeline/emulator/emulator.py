"""One emulated API: its options, fault plan, state and clock, shared by all handlers."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from flux_pipeline.emulator import records
from flux_pipeline.emulator.contracts import Contract, catalog_of
from flux_pipeline.emulator.faults import FaultPlan, LastingFault, Phase, draw_fault, find_lasting
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.records import Record, State
from flux_pipeline.emulator.usage import Usage, build_usage

Clock = Callable[[], float]
"""Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Emulator:
    """One emulated API; everything that it has to remember is in its state."""

    state: State
    options: EmulatorOptions = field(default_factory=EmulatorOptions)
    faults: FaultPlan = field(default_factory=FaultPlan)
    clock: Clock = time.time
    finish: Callable[[bytes], bytes] = bytes
    """What is done to each output file before it is served, such as signing it."""

    def usage(self, *, predictions: bool = True) -> Usage:
        """The usage until now."""
        return build_usage(self.state, self.clock(), predictions=predictions)

    def contracts(self, model: str) -> tuple[Contract, ...]:
        """The contracts of a model (``owner/name``), with the defaults that drifted."""
        catalog = catalog_of(self.options.models_folder)
        drifted = self.options.default_drift.get(model, {})
        return tuple(contract.drifted(drifted) for contract in catalog.versions(model))

    def contract_of_version(self, version: str) -> Contract | None:
        """The contract of a version's 64 hex digits, or None."""
        contract = catalog_of(self.options.models_folder).find_version(version)
        drift = self.options.default_drift
        return None if contract is None else contract.drifted(drift.get(contract.model, {}))

    def find(self, prediction_id: str) -> Record | None:
        """The prediction with this id, or None."""
        with self.state.reading() as connection:
            return records.find(connection, prediction_id)

    def fault_of_call(self, phase: Phase, record: Record | None, part: str = "") -> str | None:
        """Draw the fault of a call other than a create; None for a call without one.

        ``part`` identifies one file of a record.
        """
        if not self.faults.rates(phase):
            return None
        if record is not None and not self.faults.concerns(record.typed_input.prompt):
            return None
        identity = phase if record is None else f"{record.identity}{part}"
        with self.state.transaction() as connection:
            return draw_fault(connection, self.faults, phase, identity)

    def lasting_fault(
        self, phase: str, prompt: str, *, since: float | None = None
    ) -> LastingFault | None:
        """The lasting fault of a phase that this prompt's call meets now, or None.

        ``since`` is when its seconds begin; None for the first create that was received.
        """
        if not self.faults.lasting or not self.faults.concerns(prompt):
            return None
        with self.state.transaction() as connection:
            return find_lasting(connection, self.faults, phase, now=self.clock(), since=since)
