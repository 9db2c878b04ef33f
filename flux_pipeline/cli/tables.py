"""Prints tables as they are: no name is cut without a terminal, none is markup or an emoji."""

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

_WIDEST = 1_000


def print_table(table: Table) -> None:
    """Print a table on standard output; on a terminal its names are folded where it is narrow."""
    console = Console(markup=False, emoji=False)
    if not console.is_terminal:  # a file or a pipe has no width that rows must fit in
        wide = console.options.update(max_width=_WIDEST)
        console.width = max(console.width, Measurement.get(console, wide, table).maximum)
    console.print(table)
