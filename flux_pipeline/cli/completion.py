"""`flux-pipeline completion`: lets a shell complete the commands and their options."""

import os
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from flux_pipeline.errors import ConfigError, Problem

_PROGRAM = "flux-pipeline"
_VARIABLE = "_FLUX_PIPELINE_COMPLETE"
_SHELLS = ("bash", "zsh", "fish")
_MARK = "# completion of flux-pipeline"
_shell = click.argument("shell", required=False, type=click.Choice(_SHELLS))


@click.group()
def completion() -> None:
    """Let a shell complete commands and options."""


@completion.command()
@_shell
def install(shell: str | None) -> None:
    """Install it for your shell, or the one named; a second time changes nothing.

    bash and zsh get a script in the user's data folder and a line in ~/.bashrc or ~/.zshrc, fish a
    file of its own. It works in shells that are started after that.
    """
    name = shell or _own_shell()
    script, start = _places(name)
    try:
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(completion_script(name), "utf-8")
        click.echo(f"wrote {script}")
        if start is not None and _add_line(start, f". '{script}'  {_MARK}"):
            click.echo(f"added a line to {start}")
    except (OSError, UnicodeError) as error:
        path = getattr(error, "filename", None) or start or script
        raise ConfigError([Problem(str(path), 0, "", f"can't be written ({error})")]) from error
    click.echo(f"next: exec {name}")


@completion.command()
@_shell
def show(shell: str | None) -> None:
    """Print the script, to be installed by hand."""
    click.echo(completion_script(shell or _own_shell()), nl=False)


def completion_script(shell: str) -> str:
    """Click's script for a shell; it asks the program for what fits."""
    from flux_pipeline.cli import cli

    made = get_completion_class(shell)
    if made is None:
        raise click.BadParameter(f"{shell}: click knows {', '.join(_SHELLS)}")
    complete = made(cli, {}, _PROGRAM, _VARIABLE)
    return f"{_MARK}\n{complete.source_template % complete.source_vars()}\n"


def _own_shell() -> str:
    name = Path(os.environ.get("SHELL", "")).name
    if name not in _SHELLS:
        raise click.UsageError(f"SHELL names none of {', '.join(_SHELLS)}: give one of them")
    return name


def _places(shell: str) -> tuple[Path, Path | None]:
    """The file of the script, and the file that has to read it; fish finds it by itself."""
    home = Path.home()
    if shell == "fish":
        config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
        return config / f"fish/completions/{_PROGRAM}.fish", None
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share")
    folder = Path(os.environ.get("ZDOTDIR") or home) if shell == "zsh" else home
    return data / f"{_PROGRAM}/completion.{shell}", folder / f".{shell}rc"


def _add_line(path: Path, line: str) -> bool:
    """Add a line to a file of the user's, unless one of ours is there."""
    text = path.read_text("utf-8") if path.exists() else ""
    if _MARK in text:
        return False
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{'' if not text or text.endswith(chr(10)) else chr(10)}{line}\n")
    return True
