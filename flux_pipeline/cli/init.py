"""`flux-pipeline init`: writes a folder that makes its first pictures as it is."""

import shlex
import shutil
import sys
from pathlib import Path

import click

from flux_pipeline.errors import ConfigError, Problem

_FIRST = """\
# A prompt set: every prompt below becomes a picture. `flux-pipeline plan` says what it would cost,
# `flux-pipeline run` makes what is missing. Edit a prompt, and that one alone is made again.
description: My first pictures
model: lucataco/flux-schnell-lora # flux-pipeline model list: the others

# Inputs of the model, for every prompt. `flux-pipeline model show` tells what there is.
defaults: {hf_lora: alvdansen/frosting_lane_flux, aspect_ratio: 16:9}

prompts:
  castle: a castle in the snow, frstingln illustration

  # One prompt becomes several: 2 x 2 pictures.
  harbour:
    prompt: "a {weather} harbour at {hour}, frstingln illustration"
    matrix: {weather: [calm, stormy], hour: [dawn, dusk]}

budget: {usd_per_run: 1} # a run stops before it has cost more
# schedule: {cron: "0 6 * * *", timezone: Europe/Berlin} # and Dagster makes it every morning
"""
_IGNORED = """\
# Pictures, ledger, Dagster's runs: what is made here.
data/
.env
"""
_ENVIRONMENT = """\
# Copy to .env and take the # away where needed; flux-pipeline and dagster dev read it, and it goes
# before variables that are set. Without it an emulator draws placeholders, and nothing is paid.
#FLUX_PROVIDER=replicate
#FLUX_API_KEY=
#FLUX_BUDGET_USD_PER_DAY=5
#FLUX_STORE=s3://my-bucket/pictures
#FLUX_LEDGER=postgresql://user@host/flux
"""
_README = """\
# Pictures

`configs/` holds the prompt sets. `flux-pipeline plan` says what is missing and what it costs.
`flux-pipeline run` makes it; without a `.env` as in `.env.example` an emulator draws placeholders.
`flux-pipeline doctor` says what is wrong with the set-up, `flux-pipeline verify` with the pictures.
"""
FILES = {
    "configs/first.yaml": _FIRST,
    ".gitignore": _IGNORED,
    ".env.example": _ENVIRONMENT,
    "README.md": _README,
}
"""What is written, by path."""


@click.command()
@click.argument(
    "folder", metavar="[DIR]", default=".", type=click.Path(file_okay=False, path_type=Path)
)
def init(folder: Path) -> None:
    """Write a prompt set, .gitignore, .env.example and README to DIR, or to this folder.

    Nothing is overwritten: where one of them is there already, none is written. Exit code: 2 then.
    """
    there = [path for path in (folder / name for name in FILES) if path.exists()]
    if there:
        message = "is there already: nothing was written; name another folder, or move it away"
        raise ConfigError([Problem(str(path), 0, "", message) for path in there])
    try:
        for name, text in FILES.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
            click.echo(f"wrote {path}")
    except OSError as error:
        message = f"can't be written ({error.strerror})"
        raise ConfigError([Problem(str(error.filename or folder), 0, "", message)]) from error
    click.echo(f"\nnext: {next_command(folder)}")


def next_command(folder: Path) -> str:
    """The command that makes the first pictures; it works as it is typed."""
    found = shutil.which("flux-pipeline") is not None
    program = "flux-pipeline" if found else f"{shlex.quote(sys.executable)} -m flux_pipeline.cli"
    into = "" if folder.resolve() == Path.cwd() else f"cd {shlex.quote(str(folder))} && "
    return f"{into}{program} run"
