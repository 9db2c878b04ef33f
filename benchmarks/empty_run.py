"""A Dagster run of one asset that does nothing, in this process: what any run costs."""

from pathlib import Path

import dagster as dg


@dg.asset
def nothing() -> None:
    """Make nothing."""


def main() -> None:
    """Run it, with its history in the folder ``empty``."""
    Path("empty").mkdir(exist_ok=True)
    definitions = dg.Definitions(assets=[nothing], jobs=[dg.define_asset_job("make")])
    with dg.DagsterInstance.local_temp("empty") as instance:
        definitions.resolve_job_def("make").execute_in_process(instance=instance)


if __name__ == "__main__":
    main()
