"""The Dagster components for other projects, ``PromptSet`` and ``SharedAssets``.

    type: flux_pipeline.PromptSet
    attributes:
      path: ../../prompts/winter.yaml     # a file as in ``configs/``

or the keys of such a file in place of ``path``, with the same meaning; and once a project

    type: flux_pipeline.SharedAssets

for lineage, spend, the gallery of all, the rescue and alerts. Without it the project's definitions
need an ``ImageProducer`` as the resource ``image_producer``.

The trap: Dagster reads a ``defs.yaml`` as YAML 1.1, where ``16:9`` is 969, ``no`` is false, and the
last of two equal keys wins. So the attributes are read from the text of the file, by the rules of a
prompt set file, and the values that Dagster has read are not used.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, Self

import dagster as dg
import yaml
from dagster.components.resolved.errors import ResolutionException
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from flux_pipeline.defs.build import build_set, build_shared
from flux_pipeline.defs.change_sensor import (
    Stamps,
    WatchedPromptSets,
    build_changes_sensor,
    picks_files,
    stamp_files,
)
from flux_pipeline.errors import ConfigError, Problem
from flux_pipeline.models import Catalog
from flux_pipeline.prompts import (
    Document,
    YamlSection,
    all_followers,
    build_prompt_set,
    load_prompt_set,
    read_section,
)
from flux_pipeline.prompts import PromptSet as LoadedPromptSet
from flux_pipeline.prompts.json_schema import read_copy
from flux_pipeline.resources import AlertSender, ImageProducer
from flux_pipeline.settings import Settings

_FILES = ("defs.yaml", "component.yaml")
_OURS = b"flux_pipeline."
"""In the text of every file that names a component of this package."""
_SCALARS: list[JsonValue] = ["string", "number", "boolean", "null"]
"""JSON types that YAML may give for a text without quotes."""
_NUMBER = r"\{\{|^[-+.\deE_]+$"
"""A number as a text: one of Dagster's templates, or digits that YAML takes for text (1e3)."""
_WITH_BRACES = ("prompts", "defaults")
"""Keys below which ``{{`` is an escaped brace; elsewhere it begins one of Dagster's templates."""

_START = """\
model: lucataco/flux-schnell-lora
description: What these images are for
prompts:
  castle: a castle in the snow
  moon: {prompt: "the {phase} moon over a harbour", matrix: {phase: [full, new]}}
budget: {usd_per_run: 1}
# owners: ["team:studio"]
# defaults: {hf_lora: alvdansen/frosting_lane_flux, aspect_ratio: 16:9}
# partitions: {by: shard, count: 8}
# schedule: {cron: "0 6 * * *", timezone: Europe/Berlin}
# automation: on_change
"""
"""The attributes of a new prompt set: it loads as it is, and costs less than a cent."""

_SHARED_ASSETS = """\
image_producer: environment  # from FLUX_* variables; project: its definitions have the resource
"""
"""The attributes of new shared assets."""


# The scaffolders stand before the components, whose decorators need them.
class PromptSetScaffolder(dg.Scaffolder):
    """Writes a new prompt set: a component's ``defs.yaml``; in this project a file in ``configs/``.

    Raises:
        SystemExit: With 0 after a file was written to ``configs/``: Dagster would go on and look
            for a ``defs.yaml``. With 1 if that file exists already.
    """

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        """Write the file; a component in Python is Dagster's own form."""
        if _is_this_project(request):
            _start_config(request)
        if request.scaffold_format != "yaml":
            dg.scaffold_component(request)
            return
        _write(request, _START)


class SharedAssetsScaffolder(dg.Scaffolder):
    """Writes a ``defs.yaml`` with the component.

    Raises:
        SystemExit: In this project, which has the shared assets without a component.
    """

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        """Write the file; a component in Python is Dagster's own form."""
        if _is_this_project(request):
            _remove_empty(request.target_path)
            raise SystemExit(
                "Here the shared assets are there already: this is for other projects."
            )
        if request.scaffold_format != "yaml":
            dg.scaffold_component(request)
            return
        _write(request, _SHARED_ASSETS)


@dg.scaffold_with(PromptSetScaffolder)
class PromptSet(dg.Component):
    """Images of a list of prompts: made once, kept with their lineage, shown in a gallery."""

    def __init__(self, prompt_set: LoadedPromptSet, files: Stamps | None = None) -> None:
        self.prompt_set = prompt_set
        self.files = files or {}
        """The state of the files it was loaded from, without tables, just before."""

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """The pydantic model of the attributes."""
        return PromptSetAttributes

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """Load the file that ``path`` names, or build the prompt set from the attributes.

        Raises:
            ConfigError: With everything that is wrong.
        """
        files = stamp_files(source_files(context))
        given = read_component_attributes(attributes, context)
        if given.path is None:
            built = build_prompt_set(
                given.name,
                given.document,
                folder=given.folder,
                catalog=Catalog.of_configs(given.folder, given.folder.parent),
                find_set=_SiblingComponents(context, given).find,
            )
            return cls(built, files)
        path = given.folder / given.path
        return cls(load_prompt_set(path), {**files, **stamp_files([path])})

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Build assets, checks, job and schedule."""
        others = context.component_tree.get_all_components(PromptSet)
        sets = [each.prompt_set for each in others]
        return build_set(self.prompt_set, all_followers(self.prompt_set, sets))


_under_way: ContextVar[tuple[str, ...]] = ContextVar("components under way", default=())
"""The names of the prompt sets that are being loaded for each other."""


@dataclass(frozen=True, slots=True)
class _SiblingComponents:
    """Finds the prompt sets whose pictures a component's set is made for: they lie beside it."""

    context: dg.ComponentLoadContext
    attributes: "ComponentAttributes"

    def find(self, name: str) -> LoadedPromptSet:
        """The prompt set of the component in the folder of that name, beside this one's.

        Raises:
            LookupError: There is none, or the sets go in a circle.
        """
        circle = (*_under_way.get(), self.attributes.name)
        if name in circle:
            raise LookupError(f"goes in a circle: {' -> '.join([*circle, name])}")
        folder = self.attributes.folder.parent / name
        tree = self.context.component_tree
        if not any((folder / each).is_file() for each in _FILES):
            raise LookupError(f"no component {name} beside this one: there is no {folder}")
        token = _under_way.set(circle)
        try:
            component = tree.load_component(folder.relative_to(tree.defs_module_path))
        finally:
            _under_way.reset(token)
        if not isinstance(component, PromptSet):
            message = f"{name} is no flux_pipeline.PromptSet"
            raise LookupError(message)  # noqa: TRY004 - what is wrong is the name
        return component.prompt_set


class SharedAssetsAttributes(BaseModel):
    """The attributes of ``SharedAssets``; the prompt sets are found in the project."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_producer: Literal["environment", "project"] = Field(
        default="environment",
        description="Where the resource image_producer comes from: environment, the FLUX_*"
        " variables; or project, where the project's own definitions have it.",
    )


@dg.scaffold_with(SharedAssetsScaffolder)
class SharedAssets(dg.Component):
    """What all prompt sets share: lineage and spend, a gallery of all, the rescue, and alerts."""

    def __init__(self, attributes: SharedAssetsAttributes | None = None) -> None:
        self.attributes = attributes or SharedAssetsAttributes()

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """The pydantic model of the attributes."""
        return SharedAssetsAttributes

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """Keep the attributes; none is required."""
        del context
        return cls(attributes if isinstance(attributes, SharedAssetsAttributes) else None)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Build the shared assets over every ``PromptSet`` component of the project.

        Raises:
            ConfigError: The project has the shared assets, or the name of a prompt set, twice, or a
                FLUX_* variable is wrong.
        """
        tree = context.component_tree
        if len(tree.get_all_components(SharedAssets)) > 1:
            message = "a project has one SharedAssets, over all its prompt sets: remove the others"
            raise ConfigError([Problem(str(context.path), 0, "", message)])
        watched = _watch(tree)
        settings = Settings.of_process(os.environ)
        from_environment = self.attributes.image_producer == "environment"
        shared = build_shared(
            watched.prompt_sets,
            ImageProducer.from_settings(settings) if from_environment else None,
            AlertSender.from_settings(settings),
        )
        changes = build_changes_sensor(watched, settings.ui_url)
        return dg.Definitions.merge(shared, dg.Definitions(sensors=[changes]))


def _watch(tree: dg.ComponentTree) -> WatchedPromptSets:
    """Load the project's prompt sets, with the state of their files just before."""
    find = partial(_component_files, tree.defs_module_path)
    files = dict(stamp_files(find()))
    components = tree.get_all_components(PromptSet)
    for each in components:
        files |= each.files
    prompt_sets, load = _distinct(components), partial(_load_anew, tree)
    files |= stamp_files(picks_files(prompt_sets))
    return WatchedPromptSets(tree.defs_module_path, files, prompt_sets, find, load)


def _component_files(folder: Path) -> Iterator[Path]:
    """The component files below a folder that name a component of this package."""
    for name in _FILES:
        for path in folder.rglob(name):
            with suppress(OSError):  # it may be removed meanwhile
                if _OURS in path.read_bytes():
                    yield path


def _load_anew(tree: dg.ComponentTree) -> Sequence[LoadedPromptSet]:
    """Load the prompt sets from their files as they are now; Python modules stay as imported.

    Raises:
        ConfigError: With everything that is wrong; for an error of Dagster's, its message.
    """
    with errors_of_components(tree.defs_module_path):
        again = dg.ComponentTree.from_module(tree.defs_module, tree.project_root)
        return _distinct(again.get_all_components(PromptSet))


def load_component_sets(root: Path) -> Sequence[LoadedPromptSet]:
    """The prompt sets of the components of the project in a folder, for use outside of Dagster.

    Raises:
        ConfigError: As ``_load_anew``.
    """
    with errors_of_components(root):
        return _distinct(dg.ComponentTree.for_project(root).get_all_components(PromptSet))


@contextmanager
def errors_of_components(place: Path) -> Iterator[None]:
    """Turn what Dagster raises while it loads components into one ``ConfigError``."""
    try:
        yield
    except Exception as error:  # of many classes, and whatever the project's own code raises
        raise _as_config_error(error, place) from error


def _as_config_error(error: BaseException, place: Path) -> ConfigError:
    while not isinstance(error, ConfigError):
        if error.__cause__ is None:
            return ConfigError([Problem(str(place), 0, "", str(error).strip())])
        error = error.__cause__
    return error


def _distinct(components: Sequence[PromptSet]) -> Sequence[LoadedPromptSet]:
    """The components' prompt sets, each with a name of its own.

    Raises:
        ConfigError: Two have one name. It names their files; Dagster's error names assets alone.
    """
    prompt_sets = [component.prompt_set for component in components]
    places: dict[str, str] = {}
    problems = []
    for each in prompt_sets:
        if each.name in places:
            message = f"is named {each.name}, and so is one in {places[each.name]}: give it a name"
            problems.append(Problem(each.path, 0, "name", message))
        places.setdefault(each.name, each.path)
    if problems:
        raise ConfigError(problems)
    return prompt_sets


def _add_form(schema: dict[str, Any]) -> None:
    """Put the JSON Schema of a prompt set file into that of the attributes, for editors."""
    form = _inlined_form()
    schema["properties"] |= form["properties"]
    schema["allOf"] = form["allOf"]
    schema["additionalProperties"] = False


@cache  # Dagster asks for it each time that it loads the definitions
def _inlined_form() -> dict[str, Any]:
    form = read_copy()
    return {key: _inlined(form[key], form["$defs"]) for key in ("properties", "allOf")}


def _inlined(part: Any, definitions: dict[str, Any]) -> Any:
    """A schema with its ``$ref`` resolved: ``dg`` puts it into a schema with other ``$defs``."""
    if isinstance(part, list):
        return [_inlined(each, definitions) for each in part]
    if not isinstance(part, dict):
        return part
    if reference := part.get("$ref"):
        part = {**definitions[reference.removeprefix("#/$defs/")], **part}
    kept = {key: value for key, value in part.items() if key not in ("$ref", "discriminator")}
    return _with_yaml_types({key: _inlined(value, definitions) for key, value in kept.items()})


def _with_yaml_types(part: dict[str, Any]) -> dict[str, Any]:
    """A schema that allows what YAML gives for a text without quotes, such as 969 for 16:9."""
    if isinstance(choices := part.get("enum"), list):
        return part | {"enum": [*choices, *_yaml_values(choices)]} | {"type": _SCALARS}
    if part.get("type") == "string":
        return part | {"type": _SCALARS}
    if part.get("type") in {"integer", "number"}:
        return part | {"type": [part["type"], "string"], "pattern": _NUMBER}
    return part


def _yaml_values(choices: list[Any]) -> Iterator[Any]:
    for choice in choices:
        made = yaml.safe_load(choice) if isinstance(choice, str) else choice
        if made != choice:
            yield made


class PromptSetAttributes(BaseModel):
    """The attributes of ``PromptSet``: a file's path, or the keys of such a file.

    The keys are checked later, by the rules of a file. Dagster fills this model with the values
    that YAML gives; ``read_component_attributes`` reads the same keys from the text.
    """

    model_config = ConfigDict(extra="allow", frozen=True, json_schema_extra=_add_form)

    path: Any = Field(
        default=None,
        description="A prompt set file, from this folder on; then nothing else.",
        json_schema_extra={"type": "string"},
    )
    name: Any = Field(
        default=None,
        description="The prompt set's name; left out, that of this folder.",
        json_schema_extra={"type": _SCALARS},
    )


@dataclass(frozen=True, slots=True)
class ComponentAttributes:
    """The attributes of one ``PromptSet`` component, read from the text of its file."""

    document: Document
    """The keys of a prompt set file; none where ``path`` names one."""
    folder: Path
    """The folder to which ``path`` and the paths of tables are relative."""
    name: str
    path: str | None


def read_component_attributes(
    attributes: BaseModel | None, context: dg.ComponentLoadContext
) -> ComponentAttributes:
    """Read the attributes from the text of their file; made in Python, take them as given.

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
    return ComponentAttributes(
        replace(document, value=keys), folder, named, None if path is None else str(path)
    )


def source_files(context: dg.ComponentLoadContext) -> list[Path]:
    """The ``defs.yaml`` of a component; none where Python code makes it."""
    tree = context.resolution_context.source_position_tree
    return [] if tree is None else [Path(tree.position.filename)]


def _document(attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Document:
    given = attributes.model_dump(exclude_unset=True) if attributes else {}
    tree = context.resolution_context.source_position_tree
    if tree is None or _declared(context) != given:
        # Made in Python: the file around it holds the attributes of another component, or none.
        return Document(f"{context.path}", given)
    section = YamlSection(tree.position.start.line, "attributes")
    document = read_section(Path(tree.position.filename), section)
    return _Templates(context.resolution_context).fill(document)


def _declared(context: dg.ComponentLoadContext) -> Mapping[str, Any] | None:
    """The attributes that stand in the component's ``defs.yaml``, as YAML reads them."""
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
    """Fills in Dagster's Jinja templates, such as ``{{ env.CRON }}``."""

    def __init__(self, resolution: dg.ResolutionContext) -> None:
        self._resolution = resolution
        names = "|".join(map(re.escape, resolution.scope))
        self._template = re.compile(rf"\{{\{{-?\s*(?:{names})\b[^}}]*\}}\}}")

    def fill(self, document: Document) -> Document:
        """The document with every template filled in.

        Raises:
            ConfigError: For each that can't be filled in, and each in a prompt, where none is: as
                text of the prompt it would be paid for.
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
            if found := self._template.search(text):
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


def _write(request: dg.ScaffoldRequest[Any], attributes: str) -> None:
    body = "".join(f"  {line}\n" for line in attributes.splitlines())
    text = f"type: {request.type_name}\n\nattributes:\n{body}"
    if request.append:
        with request.target_path.open("a", encoding="utf-8") as file:
            file.write(f"---\n{text}")
    else:
        (request.target_path / "defs.yaml").write_text(text, encoding="utf-8")


def _is_this_project(request: dg.ScaffoldRequest[Any]) -> bool:
    root = request.project_root
    return root is not None and root.resolve() == Path(__file__).parents[2]


def _start_config(request: dg.ScaffoldRequest[Any]) -> None:
    """Write the file to ``configs/``: this project loads no folders below ``defs/``."""
    folder = request.target_path
    path = Path(request.project_root or ".") / "configs" / f"{folder.name}.yaml"
    _remove_empty(folder)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(_START)
    except FileExistsError:
        raise SystemExit(f"{path} is there already") from None
    print(f"Here a prompt set is a file: wrote {path}. It has the same keys.")  # noqa: T201
    raise SystemExit(0)


def _remove_empty(folder: Path) -> None:
    """Remove the folder that Dagster has made for the component."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
