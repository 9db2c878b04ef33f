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
from click.shell_completion import CompletionItem

from flux_pipeline import garbage_collector
from flux_pipeline.errors import ConfigError, FluxPipelineError
from flux_pipeline.project import load_env_file

INTERRUPTED = 130
"""The exit code after SIGINT or SIGTERM."""
_COMMANDS = {
    "init": "Write a prompt set, .gitignore, .env.example and README to DIR, or to this folder.",
    "run": "Make the images of the prompt sets named, or of all.",
    "plan": "Say what would be made, what exists already, and what it would cost.",
    "verify": "Find what was paid and is not there, paid twice, orphaned, broken or held.",
    "reindex": (
        "Write the lineage rows and ledger entries that are missing, from the images in the store."
    ),
    "rescue": "Finish what was accepted and left; create nothing.",
    "held": "List what may have been paid and can't be proven, and end it.",
    "retry": (
        "Ask again for images that failed, or with --refused were refused;"
        " it is paid like a new one."
    ),
    "prune": (
        "List stored pictures that no prompt set asks for any more;"
        " archive or remove them by choice."
    ),
    "publish": (
        "Deliver the chosen pictures of prompt sets to where their `publish` says, with an index."
    ),
    "unpublish": "Take published pictures down: their files and their entries in the index.",
    "trace": "Say where a picture comes from: by its label, its pixels or its looks.",
    "reproduce": "Send what made an image once more, which costs money, and compare what comes.",
    "spend": "Add up predictions, images, cost and time, from the lineage table as it is now.",
    "alert": "Say where alerts go; with --test, send one.",
    "model": "Add models to a project, list and show them, and find what the provider has changed.",
    "schema": (
        "Print the JSON Schema of a prompt set file, with the inputs of this folder's models."
    ),
    "emulator": "Serve the prediction API on both prefixes, with a ledger of its own.",
    "doctor": (
        "Check key, endpoint, proxy, store, ledger, clock, Dagster's home, versions and disk."
    ),
    "completion": "Let a shell complete commands and options.",
}
"""By name the first sentence of each command's help, so that listing them imports none."""

_LEAKY_LOGGERS = ("aiohttp", "boto3", "botocore", "httpcore", "httpx", "s3transfer", "urllib3")
"""Below WARNING they log URLs with their queries, request headers and session tokens."""


class _LazyGroup(click.Group):
    """Imports a command when it is called: most need neither Dagster nor boto3."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(importlib.import_module(f"{__name__}.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)  # noqa: S101  each module has its command's name
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        named = [
            CompletionItem(name, help=sentence)
            for name, sentence in _COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return [*named, *click.Command.shell_complete(self, ctx, incomplete)]


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
    garbage_collector.release()  # click has imported the command by now


def main() -> None:
    """Run the command line; print our own errors as a message and exit with their code.

    An interrupt is one line, wherever it comes: the commands that have to end something catch it.
    """
    garbage_collector.hold()
    # Read when Arrow is imported. Its own allocator keeps memory for each thread: 40 MB of a run.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    # Read when NumPy is imported. The threads that it starts for large matrices, of which there are
    # none here, take 0.1 s of CPU until they sleep.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
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
    finally:
        garbage_collector.end()


def _escape_what_the_terminal_cannot_show() -> None:
    # Otherwise printing a prompt in Chinese fails on a terminal that is not UTF-8.
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")
