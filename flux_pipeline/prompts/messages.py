"""Says pydantic's errors in the words of a prompt set's author: the value, and what is allowed."""

import difflib
import types
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from flux_pipeline.text import quoted

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


def explain(error: ValidationError, form: type[BaseModel]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Pairs of path and message for every mistake that the error holds."""
    for detail in error.errors(include_url=False):
        path, field, form_there = _walk(detail["loc"], form)
        kind, value = detail["type"], detail["input"]
        if kind == "extra_forbidden":
            yield path, unknown_key(path[-1], form_there.model_fields)
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
            yield path, f"{quoted(value)} is not allowed ({_allowed(field, kind, value)})"


def unknown_key(key: str, allowed: Iterable[str]) -> str:
    """The message for a key that means nothing: the nearest one, or all."""
    names = list(allowed)
    near = difflib.get_close_matches(key, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"allowed: {', '.join(names)}"
    return f"unknown key {quoted(key)}; {hint}"


def _walk(
    location: Sequence[int | str], form: type[BaseModel]
) -> tuple[tuple[str, ...], FieldInfo | None, type[BaseModel]]:
    """The author's path of a location, the field it ends in, and the form around that."""
    path: list[str] = []
    field: FieldInfo | None = None
    inner: list[type[BaseModel]] = [form]
    outer = form
    for part in location:
        name = str(part)
        tagged = [candidate for candidate in inner if _is_tagged(candidate, name)]
        if len(inner) > 1 and tagged:
            # pydantic names the kind chosen of a union; the author wrote no such key.
            inner = tagged
            continue
        if name == "[key]":
            continue
        path.append(name)
        # Below a plain list or mapping there are no forms, and no limits of a field.
        outer = inner[0] if inner else outer
        field = outer.model_fields.get(name) if inner else None
        inner = list(_forms_in(field.annotation)) if field else []
    return tuple(path), field, outer


def _is_tagged(form: type[BaseModel], name: str) -> bool:
    by = form.model_fields.get("by")
    return by is not None and name in get_args(by.annotation)


def _forms_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in {Union, types.UnionType}:
        for member in get_args(annotation):
            yield from _forms_in(member)


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
