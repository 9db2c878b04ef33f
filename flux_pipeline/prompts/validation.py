"""Validates values against a pydantic schema, and describes mistakes in the author's words.

Unknown keys, missing keys and values out of range become messages that show the value and what is
allowed: pydantic's own name the type that was expected, and print inputs that may hold a token.
"""

import difflib
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from flux_pipeline.models import Model, ModelInput
from flux_pipeline.prompts.yaml_document import WIDE_COLON, WIDE_HINT
from flux_pipeline.text import quoted

Schema = TypeVar("Schema", bound=BaseModel)
Fields: TypeAlias = Mapping[str, FieldInfo]
"""The fields of a schema by name."""
OnProblem: TypeAlias = Callable[[tuple[str, ...], str], None]
"""Takes the path of keys to a mistake, and the message about it."""

# By the first word of pydantic's name for the error.
_NOUNS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "finite": "a number",
    "date": "a day, YYYY-MM-DD",
    "list": "a list",
    "dict": "a mapping",
    "mapping": "a mapping",
    "model": "a mapping",
}


def validate_input(
    model: Model, values: Mapping[str, Any], on_problem: OnProblem
) -> ModelInput | None:
    """The values as the model's input; None after ``on_problem`` got every mistake."""
    try:
        return model.validate(values)
    except ValidationError as error:
        for path, message in describe_errors(error, model.fields):
            on_problem(path, message)
        return None


def validate(
    schema: type[Schema], values: Mapping[str, Any], on_problem: OnProblem
) -> Schema | None:
    """The values as an instance of the schema; None after ``on_problem`` got every mistake."""
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        for path, message in describe_errors(error, schema):
            on_problem(path, message)
        return None


def describe_errors(
    error: ValidationError, schema: type[BaseModel] | Fields
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Pairs of path and message for every mistake that pydantic's error holds."""
    for detail in error.errors(include_url=False):
        path, field, inner_schema = _resolve(detail["loc"], schema)
        kind, value = detail["type"], detail["input"]
        if kind == "extra_forbidden":
            yield path, describe_unknown_key(path[-1], inner_schema)
        elif kind == "missing":
            about = field.description if field else None
            yield path, f"is missing: {about}" if about else "is missing"
        elif kind == "value_error":
            yield path, str(detail["ctx"]["error"])
        elif kind.startswith("union_tag"):
            yield (*path, "by"), "must be one of prompt, shard, day"
        elif kind == "too_short":
            yield path, "is empty"
        elif kind == "string_type" and not isinstance(value, str):
            yield path, f"must be text, not {quoted(value)}; put it in quotes"
        else:
            allowed = _allowed(field, kind, value)
            is_wide = allowed == "a mapping" and isinstance(value, str) and WIDE_COLON in value
            hint = f": {WIDE_HINT}" if is_wide else ""
            yield path, f"{quoted(value)} is not allowed ({allowed}){hint}"


def describe_unknown_key(key: str, allowed: Iterable[str]) -> str:
    """The message for a key that is not allowed: proposes the nearest, or lists all that are."""
    names = list(allowed)
    near = difflib.get_close_matches(key, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"allowed: {', '.join(names)}"
    return f"unknown key {quoted(key)}; {hint}"


def _resolve(
    location: Sequence[int | str], schema: type[BaseModel] | Fields
) -> tuple[tuple[str, ...], FieldInfo | None, Fields]:
    """The author's path of pydantic's location, the field at its end, and the fields around it."""
    path: list[str] = []
    field: FieldInfo | None = None
    inner: list[type[BaseModel] | Fields] = [schema]
    outer = _fields_of(schema)
    for part in location:
        name = str(part)
        tagged = [candidate for candidate in inner if _is_tagged(candidate, name)]
        if len(inner) > 1 and tagged:
            # pydantic names the member chosen of a union; the author wrote no such key.
            inner = tagged
            continue
        if name == "[key]":
            continue
        path.append(name)
        # Below a plain list or mapping there are no schemas, and no limits of a field.
        outer = _fields_of(inner[0]) if inner else outer
        field = outer.get(name) if inner else None
        inner = list(_schemas_in(field.annotation)) if field else []
    return tuple(path), field, outer


def _fields_of(schema: type[BaseModel] | Fields) -> Fields:
    return schema if isinstance(schema, Mapping) else schema.model_fields


def _is_tagged(schema: type[BaseModel] | Fields, name: str) -> bool:
    by = _fields_of(schema).get("by")
    return by is not None and name in get_args(by.annotation)


def _schemas_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is Annotated:
        yield from _schemas_in(get_args(annotation)[0])
    elif get_origin(annotation) in {Union, types.UnionType}:
        for member in get_args(annotation):
            yield from _schemas_in(member)


def _allowed(field: FieldInfo | None, kind: str, value: object) -> str:
    if field is not None and kind == "literal_error":
        return _choices(field.annotation, value)
    limits = [] if field is None else [_range(field)]
    noun = _NOUNS.get(kind.split("_", 1)[0], "")
    return ", ".join(part for part in (noun, *limits) if part) or kind.replace("_", " ")


def _choices(annotation: Any, value: object) -> str:
    while get_origin(annotation) is not Literal:
        annotation = get_args(annotation)[0]
    choices = [str(choice) for choice in get_args(annotation)]
    near = [choice for choice in choices if choice == str(value).lower().strip()]
    listed = f"one of {', '.join(choices)}"
    return f"write {near[0]}; {listed}" if near else listed


def _range(field: FieldInfo) -> str:
    low = next((m.ge for m in field.metadata if isinstance(m, annotated_types.Ge)), None)
    high = next((m.le for m in field.metadata if isinstance(m, annotated_types.Le)), None)
    if low is None:
        return "" if high is None else f"at most {high}"
    return f"at least {low}" if high is None else f"{low} to {high}"
