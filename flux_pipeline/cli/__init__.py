"""The command line: its commands are those of ``_COMMANDS``, each in a module of its own.

Exit codes: 0 all that was asked for is there, 1 something was refused, failed or held, 2 the
configuration or the call is wrong and nothing was sent, 130 interrupted.
"""

import importlib
import logging
import sys

import click

from flux_pipeline.errors import ConfigError, FluxPipelineError

_COMMANDS = {
    "run": "flux_pipeline.cli.run:run",
    "plan": "flux_pipeline.cli.plan:plan",
    "verify": "flux_pipeline.cli.verify:verify",
    "reindex": "flux_pipeline.cli.reindex:reindex",
    "rescue": "flux_pipeline.cli.rescue:rescue",
    "held": "flux_pipeline.cli.held:held",
    "trace": "flux_pipeline.cli.trace:trace",
    "reproduce": "flux_pipeline.cli.reproduce:reproduce",
    "spend": "flux_pipeline.cli.spend:spend",
    "alert": "flux_pipeline.cli.alert:alert",
    "schema": "flux_pipeline.cli.schema:schema",
    "emulator": "flux_pipeline.cli.emulator:emulator",
}


# Below WARNING they write URLs with their queries, request headers and session tokens.
_TALKATIVE = ("aiohttp", "boto3", "botocore", "httpcore", "httpx", "s3transfer", "urllib3")


class _LazyGroup(click.Group):
    """Imports a command when it is asked for: most need neither Dagster nor boto3."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)  # noqa: S101  the table above says so
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--log-level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
    default="WARNING",
    show_default=True,
    help="What is logged to standard error.",
)
@click.version_option(package_name="flux-pipeline")
def cli(log_level: str) -> None:
    """Declarative image production: prompt sets in, images with their lineage out."""
    _escape_what_the_terminal_cannot_show()
    logging.basicConfig(
        stream=sys.stderr, format="%(levelname)s %(message)s", level=log_level.upper()
    )
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)


def main() -> None:
    """Run the command line, and turn our own errors into a message and an exit code."""
    try:
        cli()
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    except FluxPipelineError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)


def _escape_what_the_terminal_cannot_show() -> None:
    # Without it a prompt in Chinese ends the command on a terminal that is not UTF-8.
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")
