"""Prompt sets and settings of a Dagster project whose sets are components, for the commands.

That is a folder whose ``[tool.dg.project]`` names a module, in which no folder of prompt sets was
given or found, and whose components name this package. Where its definitions have a resource
``image_producer`` of their own, the commands use that: its fields go before the variables.

Dagster is imported where such a project is loaded, and nowhere else.
"""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flux_pipeline.project import DgFolder, find_dg_folder
from flux_pipeline.settings import Settings

if TYPE_CHECKING:
    import dagster as dg

    from flux_pipeline.prompts import PromptSet

_COMPONENT_FILES = ("defs.yaml", "component.yaml")
_OURS = "flux_pipeline"
_SHARED = re.compile(r"^type:\s*['\"]?flux_pipeline\.SharedAssets\b", re.MULTILINE)
_OWN = re.compile(r"^\s+image_producer:\s*['\"]?project\b", re.MULTILINE)
_DOCUMENTS = re.compile(r"^---", re.MULTILINE)
_META = "flux_pipeline.image_producer"


def read_process_settings() -> Settings:
    """Read the settings of this command: from the environment, or the project's own resource.

    Raises:
        ConfigError: As ``Settings.of_process``, and where the project can't be loaded.
    """
    project = find_component_project()
    if project is not None and not _is_of_environment(project):
        from flux_pipeline.defs.project import read_variables

        variables = read_variables(project)
        os.environ.update(variables)
        if context := click.get_current_context(silent=True):
            context.meta[_META] = frozenset(variables)
    return Settings.of_process(os.environ)


def given_by_project() -> frozenset[str]:
    """The variables whose values come from the project's own resource."""
    context = click.get_current_context(silent=True)
    found = context.meta.get(_META) if context is not None else None
    return found if isinstance(found, frozenset) else frozenset()


def find_component_project() -> DgFolder | None:
    """The project of this folder, if its prompt sets are components; None where they are files.

    Raises:
        ConfigError: Its TOML is broken.
    """
    if os.environ.get("FLUX_CONFIGS") or Settings().configs.is_dir():
        return None
    project = find_dg_folder(Path.cwd())
    if project is None or project.project.get("root_module") in {None, "", _OURS}:
        return None
    _make_importable(project)
    return project if any(_OURS in text for text in _sources(project)) else None


def load_sets(settings: Settings) -> "Sequence[PromptSet]":
    """Every prompt set: of the folder of FLUX_CONFIGS, or of the project's components.

    Raises:
        ConfigError: With everything that is wrong.
    """
    if (project := find_component_project()) is not None:
        from flux_pipeline.defs.components import load_component_sets

        return load_component_sets(project.root)
    from flux_pipeline.prompts import load_prompt_sets
    from flux_pipeline.prompts.load_cache import LoadCache

    return load_prompt_sets(settings.configs, LoadCache(settings.cache))


def load_definitions() -> "tuple[dg.Definitions, str]":
    """The definitions that a run takes its jobs from, and the name of their code location.

    Raises:
        ConfigError: As ``load_sets``.
    """
    if (project := find_component_project()) is not None:
        from flux_pipeline.defs.project import load_definitions as load

        return load(project), project.code_location
    from flux_pipeline.definitions import defs
    from flux_pipeline.defs.keys import CODE_LOCATION

    return defs(), CODE_LOCATION


def place_of_sets(settings: Settings) -> Path:
    """The folder in which the prompt sets lie, for messages and for the models beside them."""
    project = find_component_project()
    return settings.configs if project is None else _defs_folder(project)


def _is_of_environment(project: DgFolder) -> bool:
    """Whether a ``SharedAssets`` makes the resource of the variables, as its file says."""
    documents = (part for text in _sources(project) for part in _DOCUMENTS.split(text))
    return any(_SHARED.search(part) and not _OWN.search(part) for part in documents)


def _sources(project: DgFolder) -> Iterator[str]:
    """The texts of the component files, and of the Python files beside them."""
    for path in sorted(_defs_folder(project).rglob("*")):
        if path.name in _COMPONENT_FILES or path.suffix == ".py":
            yield path.read_text("utf-8", errors="replace")


def _defs_folder(project: DgFolder) -> Path:
    root_module, *rest = project.defs_module.split(".")
    spec = find_spec(root_module)
    for place in (spec.submodule_search_locations or []) if spec else []:
        return Path(place, *rest)
    return project.root.joinpath("src", root_module, *rest)


def _make_importable(project: DgFolder) -> None:
    """Let a project be imported that nobody has installed, as Dagster's own servers do."""
    if find_spec(project.defs_module.partition(".")[0]) is None:
        sys.path[:0] = [os.fspath(project.root / "src"), os.fspath(project.root)]
