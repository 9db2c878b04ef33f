"""The list of commands: written in one table, so that showing it imports none of them."""

import click
import pytest

from flux_pipeline.cli import _COMMANDS, cli


@pytest.mark.parametrize("name", _COMMANDS)
def test_a_command_is_listed_with_the_first_sentence_of_its_help(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.get_short_help_str(limit=200) == _COMMANDS[name]
