"""The command line `flux-pipeline`. Each command of ``_COMMANDS`` has a module of its own.

Exit codes: 0 everything was done, 1 something was refused, failed or held, 2 the configuration or
the call is wrong and nothing was sent, 130 interrupted.
"""

import importlib
import logging
import os
import sys
from pathlib import Path

import click

from flux_pipeline.errors import ConfigError, FluxPipelineError
from flux_pipeline.project import load_env_file

INTERRUPTED = 130
"""The exit code after SIGINT or SIGTERM."""
_COMMANDS = {
    "init": "flux_pipeline.cli.init:init",
    "run": "flux_pipeline.cli.run:run",
    "plan": "flux_pipeline.cli.plan:plan",
    "verify": "flux_pipeline.cli.verify:verify",
    "reindex": "flux_pipeline.cli.reindex:reindex",
    "rescue": "flux_pipeline.cli.rescue:rescue",
    "held": "flux_pipeline.cli.held:held",
    "retry": "flux_pipeline.cli.retry:retry",
    "prune": "flux_pipeline.cli.prune:prune",
    "trace": "flux_pipeline.cli.trace:trace",
    "reproduce": "flux_pipeline.cli.reproduce:reproduce",
    "spend": "flux_pipeline.cli.spend:spend",
    "alert": "flux_pipeline.cli.alert:alert",
    "model": "flux_pipeline.cli.model:model",
    "schema": "flux_pipeline.cli.schema:schema",
    "emulator": "flux_pipeline.cli.emulator:emulator",
    "doctor": "flux_pipeline.cli.doctor:doctor",
    "completion": "flux_pipeline.cli.completion:completion",
}

_LEAKY_LOGGERS = ("aiohttp", "boto3", "botocore", "httpcore", "httpx", "s3transfer", "urllib3")
"""Below WARNING they log URLs with their queries, request headers and session tokens."""


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
@click.pass_context
def cli(context: click.Context, log_level: str) -> None:
    """Declarative image production: prompt sets in, images with their lineage out."""
    _escape_what_the_terminal_cannot_show()
    logging.basicConfig(
        stream=sys.stderr, format="%(levelname)s %(message)s", level=log_level.upper()
    )
    for name in _LEAKY_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    # Before anything reads the environment.
    context.obj = load_env_file(os.environ, Path.cwd())
    if os.environ.get("NO_COLOR"):  # rich heeds it by itself
        context.color = False


def main() -> None:
    """Run the command line; print our own errors as a message and exit with their code.

    An interrupt is one line, wherever it comes: the commands that have to end something catch it.
    """
    try:
        sys.exit(cli.main(prog_name="flux-pipeline", standalone_mode=False))
    except click.Abort as abort:
        if isinstance(abort.__cause__, KeyboardInterrupt):
            click.echo("interrupted", err=True)
            sys.exit(INTERRUPTED)
        click.echo("nothing was done", err=True)
        sys.exit(1)
    except click.ClickException as mistake:
        mistake.show()
        sys.exit(mistake.exit_code)
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    except FluxPipelineError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)


def _escape_what_the_terminal_cannot_show() -> None:
    # Otherwise printing a prompt in Chinese fails on a terminal that is not UTF-8.
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")
