"""Says at a command's start which provider, store and ledger it uses, and where that is set."""

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import click

from flux_pipeline.cli.component_project import given_by_project
from flux_pipeline.endpoint import store_folder
from flux_pipeline.project import EnvFile
from flux_pipeline.settings import LEDGER_VARIABLE, Settings


def announce(settings: Settings, more: Mapping[str, str] | None = None) -> None:
    """Print one line on standard error, before anything is sent; no secret is in it.

    ``more`` is what else is used, in words, by the variable that sets it.
    """
    click.echo(describe_setup(settings, read_env_file(), more), err=True)


def read_env_file() -> EnvFile:
    """The ``.env`` file that this command line has read at its start."""
    context = click.get_current_context(silent=True)
    found = context.find_root().obj if context is not None else None
    return found if isinstance(found, EnvFile) else EnvFile(Path())


def describe_setup(
    settings: Settings, env_file: EnvFile, more: Mapping[str, str] | None = None
) -> str:
    """``provider emulator (default), store file:///… (.env), ledger sqlite:////… (environment)``.

    Addresses are given without user, password and query.
    """
    parts = {
        "FLUX_PROVIDER": f"provider {settings.provider}",
        "FLUX_STORE": f"store {shown_store(settings.store)}",
        LEDGER_VARIABLE: f"ledger {shown_ledger(settings.ledger)}",
        **(more or {}),
    }
    return ", ".join(f"{what} ({origin(name, env_file)})" for name, what in parts.items())


def origin(variable: str, env_file: EnvFile) -> str:
    """Where a variable's value comes from, in few words."""
    if variable in given_by_project():
        return "the project's image_producer"
    if not os.environ.get(variable):
        return "default"
    if variable not in env_file.names:
        return "environment"
    here = env_file.path.parent == Path.cwd()
    shown = env_file.path.name if here else os.fspath(env_file.path)
    return f"{shown}, which replaces the environment's" if variable in env_file.replaced else shown


def shown_store(store: str) -> str:
    """A store's address, with the whole path of a folder."""
    scheme, _, rest = store.partition(":")
    return Path(store_folder(rest)).absolute().as_uri() if scheme == "file" else store


def shown_ledger(ledger: str) -> str:
    """A ledger's address without user, password and query, with the whole path of a file."""
    parts = urlsplit(ledger)
    host = parts.netloc.rpartition("@")[2]
    path = parts.path
    if parts.scheme.startswith("sqlite") and path.strip("/"):
        path = f"/{Path(path.removeprefix('/')).absolute()}"
    return f"{parts.scheme}://{host}{path}"
