"""Finds the Dagster project that a folder lies in, and reads its `.env` file, both as `dg` does.

`dg` (1.13) takes the nearest folder, from the one it is started in upwards, whose ``dg.toml`` or
``[tool.dg]`` in ``pyproject.toml`` says that it is a project or a workspace. It reads the ``.env``
there, and what stands in it replaces variables that are set (``dagster._cli.utils``,
``dagster._core.secrets.env_file``). Outside of any project `dagster dev` reads the ``.env`` of the
folder it is started in. Importing this module must stay cheap, because every command does so.
"""

import os
import tomllib
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flux_pipeline.errors import ConfigError, Problem

ENV_FILE = ".env"


@dataclass(frozen=True, slots=True)
class DgFolder:
    """The root folder of a Dagster project or workspace, with its ``[tool.dg]`` table."""

    root: Path
    table: Mapping[str, Any] = field(repr=False)

    @property
    def project(self) -> Mapping[str, Any]:
        """The table ``[tool.dg.project]``; empty where this is a workspace or a project of none."""
        found = self.table.get("project")
        return found if isinstance(found, dict) else {}

    @property
    def defs_module(self) -> str:
        """The module whose folder holds the components; empty where no root module is named."""
        root = self.project.get("root_module", "")
        return str(self.project.get("defs_module") or (f"{root}.defs" if root else ""))

    @property
    def definitions_module(self) -> str:
        """The module in which Dagster looks for the definitions."""
        given = self.project.get("code_location_target_module")
        return str(given or f"{self.project.get('root_module', '')}.definitions")

    @property
    def code_location(self) -> str:
        """The name under which Dagster shows the project."""
        return str(self.project.get("code_location_name") or self.root.name)


@dataclass(frozen=True, slots=True)
class EnvFile:
    """What was read from a ``.env`` file; never a value."""

    path: Path
    names: frozenset[str] = frozenset()
    """The variables that it sets."""
    replaced: frozenset[str] = frozenset()
    """Those of them that the process was given with another value."""


def find_dg_folder(folder: Path) -> DgFolder | None:
    """The project or workspace of a folder; None where none of its parents is one.

    Raises:
        ConfigError: A TOML file on the way is broken.
    """
    for each in (folder.absolute(), *folder.absolute().parents):
        if (own := _read_toml(each / "dg.toml")) is not None:
            return DgFolder(each, own)
        tools = (_read_toml(each / "pyproject.toml") or {}).get("tool")
        if isinstance(tools, dict) and isinstance(tools.get("dg"), dict):
            return DgFolder(each, tools["dg"])
    return None


def load_env_file(environ: MutableMapping[str, str], folder: Path) -> EnvFile:
    """Set the variables of the ``.env`` file that `dg` would read here; they replace those set.

    Raises:
        ConfigError: The file can't be read.
    """
    project = find_dg_folder(folder)
    path = (project.root if project else folder) / ENV_FILE
    values = _read_env_file(path)
    replaced = {name for name in values if environ.get(name, values[name]) != values[name]}
    environ.update(values)
    return EnvFile(path, frozenset(values), frozenset(replaced))


def _read_env_file(path: Path) -> Mapping[str, str]:
    if not path.is_file():
        return {}
    # Here, so that only who has such a file pays for its reader, which is Dagster's own.
    from dotenv import dotenv_values  # noqa: PLC0415

    try:
        found = dotenv_values(path)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        message = f"can't be read ({why}): mend it, or move it away"
        raise ConfigError([Problem(os.fspath(path), 0, "", message)]) from None
    return {name: value for name, value in found.items() if value is not None}


def _read_toml(path: Path) -> Mapping[str, Any] | None:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError:  # not there, or nobody's business here
        return None
    except ValueError:  # whose text may quote the file
        message = "is no TOML in UTF-8: mend it"
        raise ConfigError([Problem(os.fspath(path), 0, "", message)]) from None
