"""Tables: no name is cut where there is no terminal, and brackets stay."""

import pytest
from rich.table import Table

from flux_pipeline.cli.tables import print_table


def test_a_long_name_is_printed_whole_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = Table("prompt set", *(f"column {number}" for number in range(9)), box=None)
    table.add_row("a_prompt_set_with_a_very_long_name_indeed", *map(str, range(9)))
    print_table(table)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "a_prompt_set_with_a_very_long_name_indeed" in lines[1]


def test_brackets_and_names_between_colons_are_printed_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = Table("prompt", box=None)
    table.add_row("[bold] castle :castle:")
    print_table(table)
    assert "[bold] castle :castle:" in capsys.readouterr().out
