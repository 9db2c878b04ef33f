"""Prints tables in which no name is cut: without a terminal they are as wide as they need to be."""

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

_WIDEST = 1000


def print_table(table: Table) -> None:
    """Print a table on standard output; on a terminal its names are folded where it is narrow."""
    console = Console()
    if not console.is_terminal:
        wide = Console(width=_WIDEST)
        needed = Measurement.get(wide, wide.options, table).maximum
        console = Console(width=max(console.width, needed))
    console.print(table)
