"""What the attributes of a ``PromptSet`` component say: by their text, as in a prompt set file.

Dagster reads a ``defs.yaml`` as YAML does: ``16:9`` is 969 there, ``no`` is false, and of two equal
keys the last one wins in silence. So its values are left alone, and the part of the file that holds
the attributes is read by the rules of a prompt set file.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg
from dagster.components.resolved.errors import ResolutionException
from pydantic import BaseModel

from flux_pipeline.errors import ConfigError, Problem
from flux_pipeline.prompts import Document, Part, read_part

_WITH_BRACES = ("prompts", "defaults")
"""Where ``{{`` is a brace, as in a file; elsewhere it begins one of Dagster's templates."""


@dataclass(frozen=True, slots=True)
class Given:
    """What the attributes say."""

    document: Document
    """The keys of a prompt set file; none where ``path`` names one."""
    folder: Path
    """From where on a path and tables are looked for."""
    name: str
    path: str | None


def read_attributes(attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Given:
    """Read them from the text of their file; where there is none, take them as they are.

    Raises:
        ConfigError: With everything that is wrong.
    """
    place = context.path
    folder = place if place.is_dir() else place.parent
    document = _document(attributes, context)
    keys = dict(document.value)
    path, name = keys.pop("path", None), keys.pop("name", None)
    if path is not None:
        _refuse_beside_path(document, [*keys, *(["name"] if name else [])])
    named = str(name or (place.name if place == folder else place.stem))
    return Given(replace(document, value=keys), folder, named, None if path is None else str(path))


def source_files(context: dg.ComponentLoadContext) -> list[Path]:
    """The ``defs.yaml`` of a component; none of one that Python makes."""
    tree = context.resolution_context.source_position_tree
    return [] if tree is None else [Path(tree.position.filename)]


def _document(attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Document:
    given = attributes.model_dump(exclude_unset=True) if attributes else {}
    tree = context.resolution_context.source_position_tree
    if tree is None or _declared(context) != given:
        return Document(f"{context.path}", given)  # made in Python: the text says something else
    part = Part(tree.position.start.line, "attributes")
    document = read_part(Path(tree.position.filename), part)
    return _Templates(context.resolution_context).fill(document)


def _declared(context: dg.ComponentLoadContext) -> Mapping[str, Any] | None:
    """The attributes of the ``defs.yaml``: another component that makes one has its own there."""
    model = getattr(context.component_decl, "component_file_model", None)
    return None if model is None else model.attributes or {}


def _refuse_beside_path(document: Document, keys: list[str]) -> None:
    problems = list(document.duplicates)
    if keys:
        message = f"names a file, so {', '.join(keys)} must stand there and not here"
        problems.append(Problem(document.path, document.line("path"), "path", message))
    if problems:
        raise ConfigError(problems)


class _Templates:
    """Dagster's templates, such as ``{{ env.CRON }}``, which are Jinja."""

    def __init__(self, resolution: dg.ResolutionContext) -> None:
        self._resolution = resolution
        names = "|".join(map(re.escape, resolution.scope))
        self._meant = re.compile(rf"\{{\{{-?\s*(?:{names})\b[^}}]*\}}\}}")

    def fill(self, document: Document) -> Document:
        """The document with every template filled in.

        Raises:
            ConfigError: With each that can't be, or that stands where none is filled in: as braces
                they would be paid for.
        """
        problems: list[Problem] = []

        def filled(part: Any, keys: tuple[str, ...]) -> Any:
            if isinstance(part, Mapping):
                return {key: filled(value, (*keys, key)) for key, value in part.items()}
            if isinstance(part, list):
                return [filled(value, (*keys, str(at))) for at, value in enumerate(part)]
            try:
                return self._one(part, is_brace=keys[0] in _WITH_BRACES)
            except ValueError as mistake:
                key, line = ".".join(keys), document.line(*keys)
                problems.append(Problem(document.path, line, key, str(mistake)))

        value = filled(document.value, ())
        if problems:
            raise ConfigError([*document.duplicates, *problems])
        return replace(document, value=value)

    def _one(self, text: str, *, is_brace: bool) -> Any:
        if is_brace:
            if found := self._meant.search(text):
                raise ValueError(f"{found[0]} is not filled in: here {{{{ is a brace, as in a file")
            return text
        if "{{" not in text:
            return text
        try:
            value = self._resolution.resolve_value(text, as_type=object)
        except ResolutionException as error:
            raise ValueError(str(error).strip().splitlines()[-1]) from error
        if value is None:
            raise ValueError(f"{text} gives nothing: is it set?")
        return value if isinstance(value, Mapping | list) else str(value)
