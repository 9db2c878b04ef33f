"""Reads the prompts of a document: every key checked against the form and the model's limits.

Inputs are only taken apart here; their values are checked when they are expanded, because they may
depend on the row and the combination.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flux_pipeline.errors import Problems
from flux_pipeline.models import Model
from flux_pipeline.prompts.entry import DATE, Entry, SeedRule
from flux_pipeline.prompts.explain import explain, unknown_key
from flux_pipeline.prompts.form import PromptForm
from flux_pipeline.prompts.matrix import read_matrix
from flux_pipeline.prompts.names import checked_prompt_name
from flux_pipeline.prompts.table import Table, open_table
from flux_pipeline.prompts.template import Template, parse_template
from flux_pipeline.prompts.yaml_document import Document
from flux_pipeline.text import quoted

_SHORT_FORM = PromptForm(prompt="-")

NO_VALUE = "none"
"""Switches off a seed, or a default of an input that may be left out."""


def read_entries(
    document: Document, model: Model, folder: Path, *, by_day: bool, problems: Problems
) -> tuple[Entry, ...]:
    """The entries that can be expanded; everything wrong with the others goes to ``problems``."""
    reader = _Reader(document, model, folder, by_day, problems)
    prompts = document.value.get("prompts")
    defaults = reader.read_defaults(document.value.get("defaults", {}))
    if not isinstance(prompts, Mapping):
        return ()
    entries = (reader.read_entry(key, body, defaults) for key, body in prompts.items())
    return tuple(entry for entry in entries if entry is not None)


@dataclass(frozen=True, slots=True)
class _Reader:
    document: Document
    model: Model
    folder: Path
    by_day: bool
    problems: Problems

    def read_defaults(self, defaults: Any) -> Mapping[str, Any]:
        if not isinstance(defaults, Mapping):
            return {}
        allowed = [name for name in self.model.input_type.model_fields if name != "prompt"]
        self._refuse_unknown(("defaults",), defaults, allowed)
        values = {name: value for name, value in defaults.items() if name in allowed}
        self._check_constants(("defaults",), values)
        return values

    def read_entry(self, key: Any, body: Any, defaults: Mapping[str, Any]) -> Entry | None:
        where = ("prompts", str(key))
        try:
            checked_prompt_name(str(key))
        except ValueError as error:
            self._problem(where, str(error))
        if isinstance(body, str):
            inputs = {**defaults, "prompt": body}
            if not any(map(_is_special, inputs.values())) and "seed" not in inputs:
                # Most prompts of a large file: there is nothing to take apart.
                return Entry(where[1], inputs, inherited=frozenset(defaults))
            return self._entry(where, _SHORT_FORM, inputs, inherited=set(defaults))
        if not isinstance(body, Mapping):
            self._problem(where, f"must be a text or a mapping, not {quoted(body)}")
            return None
        allowed = dict.fromkeys([*PromptForm.model_fields, *self.model.input_type.model_fields])
        self._refuse_unknown(where, body, [*allowed])
        given = {k: v for k, v in body.items() if k in self.model.input_type.model_fields}
        own = {k: v for k, v in body.items() if k in PromptForm.model_fields}
        try:
            form = PromptForm.model_validate(own)
        except ValidationError as error:
            for path, message in explain(error, PromptForm):
                self._problem((*where, *path), message)
            # It will not be expanded, which is where inputs are checked.
            self._check_constants(where, {k: v for k, v in given.items() if k != "prompt"})
            return None
        inputs = {**defaults, **given, "prompt": form.prompt}
        return self._entry(where, form, inputs, inherited=defaults.keys() - given.keys())

    def _entry(
        self, where: tuple[str, str], form: PromptForm, inputs: dict[str, Any], inherited: set[str]
    ) -> Entry | None:
        table = self._table(where, form)
        if form.table is not None and table is None:
            self._check_constants(where, {k: v for k, v in inputs.items() if k not in inherited})
            return None
        columns = table.columns if table else ()
        reserved = {*columns, DATE} if self.by_day else {*columns}
        matrix = read_matrix(
            form.matrix, reserved, lambda *at: self._problem((*where, *at[:-1]), at[-1])
        )
        seed = self._seed_rule(where, inputs, form.takes)
        present = {name: value for name, value in inputs.items() if not self._is_none(name, value)}
        templates = self._templates(where, present, inherited, {*matrix, *reserved})
        if templates is None:
            self._check_constants(where, {k: v for k, v in inputs.items() if k not in inherited})
            return None
        used = set[str]().union(*(template.names for template in templates.values()))
        for name in matrix.keys() - used:
            self._problem(
                (*where, "matrix", name), "is used nowhere in the prompt; for more images use takes"
            )
        if self.by_day and seed is not SeedRule.DERIVED and DATE not in used:
            self._problem(
                (*where, "seed"),
                "with a seed of its own, or none, every day would ask for the same image: put "
                "{date} into the prompt or leave the seed out",
            )
        return Entry(
            key=where[1],
            constants={name: value for name, value in present.items() if name not in templates},
            templates=templates,
            inherited=frozenset(inherited),
            matrix=matrix,
            takes=form.takes,
            table=table,
            key_column=form.key,
            seed=seed,
        )

    def _table(self, where: tuple[str, ...], form: PromptForm) -> Table | None:
        if form.table is None:
            if form.key is not None:
                self._problem((*where, "key"), "names a column, and there is no table")
            return None
        try:
            table = open_table(self.folder, form.table)
        except ValueError as error:
            self._problem((*where, "table"), f"{form.table}: {error}")
            return None
        if form.key is not None and form.key not in table.columns:
            listed = ", ".join(table.columns)
            self._problem(
                (*where, "key"), f"{form.table} has no column {form.key}; it has {listed}"
            )
            return None
        return table

    def _seed_rule(self, where: tuple[str, ...], inputs: Mapping[str, Any], takes: int) -> SeedRule:
        seed = inputs.get("seed")
        if seed is None:
            return SeedRule.DERIVED
        if seed != NO_VALUE:
            return SeedRule.GIVEN
        if takes > 1:
            self._problem(
                (*where, "takes"),
                f"{takes} takes without a seed would be the same request {takes} times: leave out "
                "seed: none",
            )
        return SeedRule.NONE

    def _templates(
        self,
        where: tuple[str, ...],
        inputs: Mapping[str, Any],
        inherited: set[str],
        allowed: set[str],
    ) -> dict[str, Template] | None:
        """The inputs with placeholders; None where one of them is wrong."""
        templates = {}
        are_right = True
        for name, value in inputs.items():
            if not _has_braces(value):
                continue
            place = ("defaults", name) if name in inherited else (*where, name)
            try:
                templates[name] = parse_template(value)
            except ValueError as error:
                self._problem(place, str(error))
                are_right = False
                continue
            for unknown in sorted(templates[name].names - allowed):
                self._problem(place, f"unknown placeholder {{{unknown}}}; {_allowed(allowed)}")
                are_right = False
        return templates if are_right else None

    def _check_constants(self, where: tuple[str, ...], given: Mapping[str, Any]) -> None:
        values = {
            name: value
            for name, value in given.items()
            if not _has_braces(value) and not self._is_none(name, value)
        }
        try:
            self.model.input_type.model_validate({"prompt": "-", **values})
        except ValidationError as error:
            for path, message in explain(error, self.model.input_type):
                self._problem((*where, *path), message)

    def _is_none(self, name: str, value: Any) -> bool:
        is_none = value is None or value == NO_VALUE
        return is_none and self.model.input_type.model_fields[name].default is None

    def _refuse_unknown(
        self, where: tuple[str, ...], given: Iterable[Any], allowed: list[str]
    ) -> None:
        for key in given:
            if key not in allowed:
                self._problem((*where, str(key)), unknown_key(str(key), allowed))

    def _problem(self, where: tuple[str, ...], message: str) -> None:
        self.problems.add(self.document.path, self.document.line(*where), ".".join(where), message)


def _is_special(value: Any) -> bool:
    return value is None or value == NO_VALUE or _has_braces(value)


def _has_braces(value: Any) -> bool:
    return isinstance(value, str) and ("{" in value or "}" in value)


def _allowed(names: set[str]) -> str:
    if names:
        return f"allowed: {', '.join(sorted(names))}; a brace is written {{{{"
    return "a matrix, a table or partitions by day give placeholders; a brace is written {{"
