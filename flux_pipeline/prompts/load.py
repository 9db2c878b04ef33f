"""Loads prompt sets: from a folder, from one file, or from a mapping that another project holds."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flux_pipeline.errors import ConfigError, Problem, Problems
from flux_pipeline.prompts.assemble import assemble
from flux_pipeline.prompts.prompt_set import PromptSet
from flux_pipeline.prompts.yaml_document import MAX_BYTES, Document, parse_yaml
from flux_pipeline.prompts.yaml_part import Part


def load_prompt_sets(folder: Path) -> tuple[PromptSet, ...]:
    """Every prompt set of a folder (``*.yaml`` and ``*.yml``, not in its subfolders), by file name.

    Raises:
        ConfigError: with all the problems of all the files at once.
    """
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else f"no such folder, seen from {Path.cwd()}"
        raise ConfigError([Problem(str(folder), 0, "", what)])
    problems = Problems()
    sets: dict[str, PromptSet] = {}
    for path in _yaml_files(folder):
        try:
            loaded = load_prompt_set(path)
        except ConfigError as error:
            problems.add_all(error.problems)
            continue
        if loaded.name in sets:
            message = f"is named {loaded.name}, and so is {sets[loaded.name].path}: rename one"
            problems.add(str(path), 0, "", message)
        sets[loaded.name] = loaded
    problems.raise_if_any()
    return tuple(sets.values())


def load_prompt_set(path: Path) -> PromptSet:
    """The prompt set of one file, named after it; a hyphen becomes an underscore.

    Raises:
        ConfigError: with everything that is wrong with the file and its tables.
    """
    data = _read(path)
    return assemble(path.stem, str(path), parse_yaml(data, str(path)), data, path.parent)


def build_prompt_set(
    name: str,
    document: Mapping[str, Any] | Document,
    *,
    path: str = "",
    folder: Path | None = None,
) -> PromptSet:
    """The prompt set of a mapping, such as a component's attributes in another project.

    Values may be text, as a file gives it, or numbers; a ``Document`` gives messages their lines.
    Tables are looked for from ``folder`` on, else from the folder of ``path``, else from the
    working folder.

    Raises:
        ConfigError: with everything that is wrong.
    """
    source = document if isinstance(document, Document) else Document(path or name, document)
    path = path or (source.path if source is document else "")
    data = json.dumps(source.value, default=str).encode()
    return assemble(name, path, source, data, folder or Path(path).parent)


def read_part(path: Path, part: Part) -> Document:
    """What a prompt set file would hold, where it is a part of another file: by the same rules.

    Raises:
        ConfigError: with everything that is wrong with that part's YAML.
    """
    return parse_yaml(_read(path), str(path), part)


def _yaml_files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix in {".yaml", ".yml"})
    except OSError as error:
        message = f"can't be read: {error.strerror}"
        raise ConfigError([Problem(str(folder), 0, "", message)]) from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        message = f"no such file, seen from {Path.cwd()}"
    except IsADirectoryError:
        message = "is a folder; a prompt set is a file"
    except OSError as error:
        message = f"can't be read: {error.strerror}"
    raise ConfigError([Problem(str(path), 0, "", message)])
