"""Which run, asset and code the work is done for: what every record says of its maker."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RunContext:
    """One run of one asset."""

    run_id: str
    asset: str = ""
    """``<set>/images``"""
    code_version: str = ""
    """The git commit of the configuration, where there is one."""
