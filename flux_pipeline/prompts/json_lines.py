"""Reads JSON Lines as rows of text: numbers as written, duplicate keys and NaN refused."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from flux_pipeline.prompts.row import Reader, Report, Row
from flux_pipeline.prompts.text_lines import text_lines
from flux_pipeline.text import quoted


def _columns(path: Path) -> tuple[str, ...]:
    with path.open("rb") as file:
        for _, _, value in _objects(file, lambda _line, _message: None):
            return tuple(value)
    raise ValueError("holds no JSON object; every line must be one")


def _rows(path: Path, columns: Sequence[str], report: Report) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line, value in _objects(file, report):
            values = {}
            for name in columns:
                text = _text(value[name]) if name in value else None
                if text is not None:
                    values[name] = text
                elif name in value:
                    report(line, f"row {number}: {name} is {quoted(value[name])}, not text")
                else:
                    report(line, f"row {number} has no {name}")
            if len(values) == len(columns):
                yield Row(number, line, values)


def _objects(file: Any, report: Report) -> Iterator[tuple[int, int, dict[str, Any]]]:
    number = 0
    for line, text in enumerate(text_lines(file, report), start=1):
        if not text.strip():
            continue
        number += 1
        try:
            value = json.loads(
                text,
                parse_int=_Literal,
                parse_float=_Literal,
                parse_constant=_refuse_constant,
                object_pairs_hook=_without_twins,
            )
        except json.JSONDecodeError as error:
            report(line, f"row {number} is no JSON: {error.msg} at character {error.colno}")
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else error
            report(line, f"row {number}: {reason}")
        else:
            if isinstance(value, dict):
                yield number, line, value
            else:
                report(line, f"row {number} is {quoted(value)}; every line must be a JSON object")


class _Literal(str):
    """A number as it is written: 1.10 stays 1.10."""

    __slots__ = ()


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str) else None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {quoted(twin)} stands twice")
    return value


JSON_LINES = Reader(_columns, _rows)
