"""Reads the entries under ``prompts``: keys, tables, matrices, templates and seeds of each.

Inputs of the model that hold placeholders are parsed here and checked when they are expanded,
because their values may depend on the table's row and the matrix's combination.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from flux_pipeline.errors import ConfigError, Problems
from flux_pipeline.models import BUILT_IN, Catalog, Model
from flux_pipeline.prompts.chain import COLUMNS, Each, SourceSet
from flux_pipeline.prompts.expansion import DATE, MODEL, Entry, MatrixValue, SeedRule
from flux_pipeline.prompts.names import NamePart, checked_prompt_name, name_part
from flux_pipeline.prompts.schema import PlainText, PromptSchema
from flux_pipeline.prompts.tables import Table, open_table
from flux_pipeline.prompts.templates import (
    Template,
    TemplateList,
    has_braces,
    is_placeholder_name,
    parse_templates,
)
from flux_pipeline.prompts.validation import (
    OnProblem,
    describe_unknown_key,
    validate,
    validate_input,
)
from flux_pipeline.prompts.yaml_document import Document
from flux_pipeline.text import quoted

NO_VALUE = "none"
"""The word that switches off a seed, or a default of an input that may be left out."""
MAX_COMBINATIONS = 10_000
_SHORT_FORM = PromptSchema(prompt="-")
"""The settings of a prompt that is written as a text alone."""
_PROMPT_TEXT = TypeAdapter[str](PlainText)


def read_entries(
    document: Document,
    model: Model | None,
    folder: Path,
    *,
    catalog: Catalog = BUILT_IN,
    sources: Mapping[str, SourceSet] = MappingProxyType({}),
    by_day: bool,
    problems: Problems,
) -> tuple[Entry, ...]:
    """The entries that can be expanded; everything wrong with the others goes to ``problems``.

    ``model`` is the set's own; None where it names none, so that each prompt's matrix must.
    """
    reader = _EntryReader(document, model, folder, catalog, sources, by_day, problems)
    prompts = document.value.get("prompts")
    defaults = reader.read_defaults(document.value.get("defaults", {}))
    if not isinstance(prompts, Mapping):
        if model is None:
            reader.report_missing_model()
        return ()
    if model is None and not all(map(_compares_models, prompts.values())):
        reader.report_missing_model()
    entries = (reader.read_entry(key, body, defaults) for key, body in prompts.items())
    return tuple(entry for entry in entries if entry is not None)


@dataclass(slots=True)
class _EntryReader:
    document: Document
    model: Model | None
    folder: Path
    catalog: Catalog
    sources: Mapping[str, SourceSet]
    by_day: bool
    problems: Problems
    plain_keys: frozenset[str] = field(init=False)
    """The inputs of the set's model, but those whose name is also a prompt's setting."""

    def __post_init__(self) -> None:
        names = self.model.fields if self.model else ()
        self.plain_keys = frozenset(names) - (PromptSchema.model_fields.keys() - {"prompt"})

    def report_missing_model(self) -> None:
        self._add(("model",), "is missing: name one, or compare several in each prompt's matrix")

    def read_defaults(self, defaults: Any) -> Mapping[str, Any]:
        if not isinstance(defaults, Mapping):
            return {}
        if self.model is None:
            return dict(defaults)
        allowed = [name for name in self.model.fields if name != "prompt"]
        self._refuse_unknown_keys(("defaults",), defaults, allowed)
        values = {name: value for name, value in defaults.items() if name in allowed}
        self._check_constants(("defaults",), values, self.model)
        return values

    def read_entry(self, key: Any, body: Any, defaults: Mapping[str, Any]) -> Entry | None:
        path = ("prompts", str(key))
        try:
            checked_prompt_name(str(key))
        except ValueError as error:
            self._add(path, str(error))
        if isinstance(body, str):
            return self._read_text(path, body, defaults)
        if isinstance(body, Mapping):
            return self._read_mapping(path, body, defaults)
        self._add(path, f"must be a text or a mapping, not {quoted(body)}")
        return None

    def _read_text(
        self, path: tuple[str, str], text: str, defaults: Mapping[str, Any]
    ) -> Entry | None:
        model = self.model
        if model is None:
            return None
        if "prompt" not in model.fields:
            message = f"is a text, and {model.name} takes no prompt: write its inputs as a mapping"
            self._add(path, message)
            return None
        given = {"prompt": text}
        if (entry := self._plain_entry(model, path[1], given, defaults)) is not None:
            return entry
        inputs = {**defaults, **given}
        return self._build_entry(path, (model,), _SHORT_FORM, inputs, inherited=set(defaults))

    def _plain_entry(
        self, model: Model, key: str, given: Mapping[str, Any], defaults: Mapping[str, Any]
    ) -> Entry | None:
        """The entry of inputs in which there is nothing to parse, as in most of a large file.

        None where there is, and where a seed is given with partitions by day.
        """
        inputs = {**defaults, **given}
        has_seed = model.seed_input in inputs
        if any(map(_is_special, inputs.values())) or (has_seed and self.by_day):
            return None
        seed = SeedRule.DERIVED if model.takes_seed else SeedRule.NONE
        return Entry(
            key,
            (model,),
            inputs,
            inherited=frozenset(defaults.keys() - given.keys()),
            seed=SeedRule.GIVEN if has_seed else seed,
        )

    def _read_mapping(
        self, path: tuple[str, str], body: Mapping[Any, Any], defaults: Mapping[str, Any]
    ) -> Entry | None:
        if (entry := self._read_plain_mapping(path[1], body, defaults)) is not None:
            return entry
        models = self._read_models(path, body)
        if not models:
            return None
        input_names = dict.fromkeys(name for model in models for name in model.fields)
        allowed = dict.fromkeys([*PromptSchema.model_fields, *input_names])
        if "prompt" not in input_names:
            del allowed["prompt"]
        self._refuse_unknown_keys(path, body, [*allowed])
        given = {key: value for key, value in body.items() if key in input_names}
        own = {key: value for key, value in body.items() if key in PromptSchema.model_fields}
        prompt = validate(PromptSchema, own, self._adder(path))
        is_missing = any(model.needs_prompt for model in models) and "prompt" not in body
        if is_missing:
            about = PromptSchema.model_fields["prompt"].description
            self._add((*path, "prompt"), f"is missing: {about}")
        if prompt is None or is_missing:
            # It will not be expanded, which is where inputs are checked.
            self._check_constants(
                path, {k: v for k, v in given.items() if k != "prompt"}, models[0]
            )
            return None
        self._refuse_inputs_of_some(path, models, {**defaults, **given}, given)
        inputs = {**defaults, **given}
        if prompt.prompt is not None and "prompt" in input_names:
            inputs["prompt"] = prompt.prompt
        inherited = set(defaults.keys() - given.keys())
        return self._build_entry(path, models, prompt, inputs, inherited=inherited)

    def _read_plain_mapping(
        self, key: str, body: Mapping[Any, Any], defaults: Mapping[str, Any]
    ) -> Entry | None:
        """The entry of a mapping that holds a prompt and other inputs alone; else None."""
        if self.model is None or "prompt" not in body or not self.plain_keys.issuperset(body):
            return None
        try:
            text = _PROMPT_TEXT.validate_python(body["prompt"])
        except ValidationError:
            return None
        return self._plain_entry(self.model, key, {**body, "prompt": text}, defaults)

    def _read_models(self, path: tuple[str, str], body: Mapping[Any, Any]) -> tuple[Model, ...]:
        """The models that the matrix compares, or the set's own; none where one is wrong."""
        matrix = body.get("matrix")
        named = matrix.get(MODEL) if isinstance(matrix, Mapping) else None
        if not _compares_models(body):
            return () if self.model is None else (self.model,)
        models = []
        for name in named or ():
            try:
                models.append(self.catalog.find(str(name)))
            except KeyError as error:
                self._add((*path, "matrix", MODEL), f"{quoted(name)}: {error.args[0]}")
            except ConfigError as error:
                self.problems.add_all(error.problems)
        return tuple(models) if len(models) == len(named or ()) else ()

    def _refuse_inputs_of_some(
        self,
        path: tuple[str, str],
        models: Sequence[Model],
        inputs: Mapping[str, Any],
        given: Mapping[str, Any],
    ) -> None:
        """Refuse an input that one of the compared models lacks: it would be dropped silently."""
        for name in inputs:
            lacking = [model.name for model in models if name not in model.fields]
            having = [model.name for model in models if name in model.fields]
            if lacking:
                place = (*path, name) if name in given else ("defaults", name)
                takes = f"{having[0]} takes it and " if having else ""
                self._add(place, f"{takes}{lacking[0]} does not: leave it out, or make two sets")

    def _build_entry(
        self,
        path: tuple[str, str],
        models: tuple[Model, ...],
        prompt: PromptSchema,
        inputs: dict[str, Any],
        inherited: set[str],
    ) -> Entry | None:
        own = {name: value for name, value in inputs.items() if name not in inherited}
        table = self._open_table(path, prompt)
        if prompt.table is not None and table is None:
            self._check_constants(path, own, models[0])
            return None
        each, columns = self._read_each(path, prompt)
        if prompt.each is not None and each is None:
            self._check_constants(path, own, models[0])
            return None
        columns = table.columns if table else columns
        reserved = {*columns, DATE} if self.by_day else {*columns}
        matrix = read_matrix(prompt.matrix, reserved, self._adder((*path, "matrix")))
        seed = self._read_seed_rule(path, models, inputs, prompt.takes)
        present = {
            name: value for name, value in inputs.items() if not _is_none(models, name, value)
        }
        templates = self._parse_templates(path, present, inherited, {*matrix, *reserved})
        if templates is None:
            self._check_constants(path, own, models[0])
            return None
        used = set[str]().union(*(template.names for template in templates.values()))
        compared = {MODEL} if len(models) > 1 or MODEL in matrix.keys() - used else set()
        for name in matrix.keys() - used - compared:
            message = "is used nowhere in the prompt; for more images use takes"
            self._add((*path, "matrix", name), message)
        has_seed = all(model.takes_seed for model in models)
        if self.by_day and has_seed and seed is not SeedRule.DERIVED and DATE not in used:
            self._add(
                (*path, "seed"),
                "with a seed of its own, or none, every day would ask for the same image: put "
                "{date} into the prompt or leave the seed out",
            )
        return Entry(
            key=path[1],
            models=models,
            constants={name: value for name, value in present.items() if name not in templates},
            templates=templates,
            inherited=frozenset(inherited),
            matrix=matrix,
            takes=prompt.takes,
            each=each,
            table=table,
            key_column=prompt.key,
            blank=prompt.blank,
            skips_bad_rows=prompt.bad_rows == "skip",
            seed=seed,
            variable_names=(*columns, *(name for name in matrix if name not in compared)),
        )

    def _read_each(
        self, path: tuple[str, ...], prompt: PromptSchema
    ) -> tuple[Each | None, tuple[str, ...]]:
        """The set before this one, and the placeholders that its pictures fill in."""
        if prompt.each is None:
            return None, ()
        if prompt.table is not None:
            self._add((*path, "each"), "and table exclude each other: make two prompts")
            return None, ()
        source = self.sources.get(prompt.each.set)
        if source is None:
            return None, ()  # what is wrong with it is told where the sets are put together
        inputs = [name for model in source.models for name in model.fields]
        each = Each(prompt.each.set, tuple(prompt.each.prompts))
        return each, tuple(dict.fromkeys([*COLUMNS, *inputs]))

    def _open_table(self, path: tuple[str, ...], prompt: PromptSchema) -> Table | None:
        if prompt.table is None:
            if prompt.key is not None:
                self._add((*path, "key"), "names a column, and there is no table")
            for name in {"blank", "bad_rows"} & prompt.model_fields_set:
                self._add((*path, name), "is about rows, and there is no table")
            return None
        try:
            table = open_table(self.folder, prompt.table)
        except ValueError as error:
            self._add((*path, "table"), f"{prompt.table}: {error}")
            return None
        if prompt.key is not None and prompt.key not in table.columns:
            listed = ", ".join(table.columns)
            message = f"{prompt.table} has no column {prompt.key}; it has {listed}"
            self._add((*path, "key"), message)
            return None
        return table

    def _read_seed_rule(
        self,
        path: tuple[str, ...],
        models: Sequence[Model],
        inputs: Mapping[str, Any],
        takes: int,
    ) -> SeedRule:
        name = next((model.seed_input for model in models if model.takes_seed), "")
        if not name:
            return SeedRule.NONE
        seed = inputs.get(name)
        if seed is None:
            return SeedRule.DERIVED
        if seed != NO_VALUE:
            return SeedRule.GIVEN
        if takes > 1:
            self._add(
                (*path, "takes"),
                f"{takes} takes without a seed would be the same request {takes} times: leave out "
                "seed: none",
            )
        return SeedRule.NONE

    def _parse_templates(
        self,
        path: tuple[str, ...],
        inputs: Mapping[str, Any],
        inherited: set[str],
        allowed: set[str],
    ) -> dict[str, Template | TemplateList] | None:
        """The inputs with placeholders; None where one of them is wrong."""
        templates: dict[str, Template | TemplateList] = {}
        are_right = True
        for name, value in inputs.items():
            if not has_braces(value):
                continue
            place = ("defaults", name) if name in inherited else (*path, name)
            try:
                templates[name] = parse_templates(value)
            except ValueError as error:
                self._add(place, str(error))
                are_right = False
                continue
            for unknown in sorted(templates[name].names - allowed):
                hint = _describe_placeholders(allowed)
                self._add(place, f"unknown placeholder {{{unknown}}}; {hint}")
                are_right = False
        return templates if are_right else None

    def _check_constants(
        self, path: tuple[str, ...], given: Mapping[str, Any], model: Model
    ) -> None:
        """Check what can be checked before the prompt is expanded."""
        values = {
            name: value
            for name, value in given.items()
            if not has_braces(value)
            and not _is_none((model,), name, value)
            and name not in model.pictures  # files are read when the prompt is expanded
        }
        add = self._adder(path)

        def add_but_missing(keys: tuple[str, ...], message: str) -> None:
            if keys[0] in values or keys[0] not in model.fields:
                add(keys, message)

        prompt = {"prompt": "-"} if "prompt" in model.fields else {}
        validate_input(model, {**prompt, **values}, add_but_missing)

    def _refuse_unknown_keys(
        self, path: tuple[str, ...], given: Iterable[Any], allowed: list[str]
    ) -> None:
        for key in given:
            if key not in allowed:
                self._add((*path, str(key)), describe_unknown_key(str(key), allowed))

    def _adder(self, path: tuple[str, ...]) -> OnProblem:
        return lambda keys, message: self._add((*path, *keys), message)

    def _add(self, path: tuple[str, ...], message: str) -> None:
        self.problems.add(self.document.path, self.document.line(*path), ".".join(path), message)


def read_matrix(
    matrix: Mapping[str, Sequence[str]], reserved: set[str], on_problem: OnProblem
) -> dict[str, tuple[MatrixValue, ...]]:
    """The choices of every variable; ``reserved`` are the names that a table or a day gives."""
    # Computed, not multiplied out: nine variables of ten values would fill the memory.
    count = math.prod(len(values) for values in matrix.values())
    if count > MAX_COMBINATIONS:
        on_problem((), f"has {count:,} combinations; at most {MAX_COMBINATIONS:,}: use a table")
        return {}
    choices = {}
    for name, values in matrix.items():
        if not is_placeholder_name(name):
            on_problem((name,), "a variable's name is made of letters, digits, _ and spaces")
        if name in reserved:
            message = "is taken: the table or the partitions give a value of this name"
            on_problem((name,), message)
        by_part: dict[NamePart, str] = {}
        for value in values:
            part = name_part(value)
            if part not in by_part:
                by_part[part] = value
            elif by_part[part] == value:
                on_problem((name,), f"{quoted(value)} stands twice; for more images use takes")
            else:
                both = f"{quoted(by_part[part])} and {quoted(value)}"
                on_problem((name,), f"{both} give the same name ({part.readable})")
        choices[name] = tuple(MatrixValue(part, value) for part, value in by_part.items())
    return choices


def _is_none(models: Sequence[Model], name: str, value: Any) -> bool:
    """Whether a value switches off an input that may be left out."""
    if value is not None and value != NO_VALUE:
        return False
    fields = [model.fields[name] for model in models if name in model.fields]
    return all(each.default is None and not _takes_word(each, value) for each in fields)


def _takes_word(field: FieldInfo, value: Any) -> bool:
    return value is not None and value in get_args(field.annotation)


def _compares_models(body: Any) -> bool:
    """Whether a prompt's matrix names models, and not values of a placeholder."""
    matrix = body.get("matrix") if isinstance(body, Mapping) else None
    named = matrix.get(MODEL) if isinstance(matrix, Mapping) else None
    return isinstance(named, list) and not _is_placeholder_used(MODEL, body)


def _is_placeholder_used(name: str, body: Mapping[Any, Any]) -> bool:
    """Whether a text of a prompt has this placeholder; matrices and tables aside."""
    texts = [value for key, value in body.items() if key != "matrix"]
    listed = [each for value in texts for each in (value if isinstance(value, list) else [value])]
    return any(isinstance(each, str) and f"{{{name}}}" in each for each in listed)


def _is_special(value: Any) -> bool:
    return value is None or value == NO_VALUE or has_braces(value)


def _describe_placeholders(names: set[str]) -> str:
    if names:
        return f"allowed: {', '.join(sorted(names))}; a brace is written {{{{"
    return "a matrix, a table or partitions by day give placeholders; a brace is written {{"
