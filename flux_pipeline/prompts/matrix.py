"""Reads a prompt's matrix: variables, their values, and the name part that each value gives."""

import math
from collections.abc import Callable, Mapping, Sequence

from flux_pipeline.prompts.entry import Choice
from flux_pipeline.prompts.names import slug
from flux_pipeline.prompts.template import is_placeholder_name
from flux_pipeline.text import quoted

MAX_COMBINATIONS = 10_000


def read_matrix(
    matrix: Mapping[str, Sequence[str]], reserved: set[str], problem: Callable[..., None]
) -> dict[str, tuple[Choice, ...]]:
    """The choices of every variable.

    ``problem`` takes the keys below the prompt and, last, the message. Nothing is multiplied out
    here: the number of combinations is computed first.
    """
    count = math.prod(len(values) for values in matrix.values())
    if count > MAX_COMBINATIONS:
        problem("matrix", f"has {count:,} combinations; at most {MAX_COMBINATIONS:,}: use a table")
        return {}
    choices = {}
    for name, values in matrix.items():
        if not is_placeholder_name(name):
            problem("matrix", name, "a variable's name is made of letters, digits, _ and spaces")
        if name in reserved:
            problem(
                "matrix", name, "is taken: the table or the partitions give a value of this name"
            )
        by_slug: dict[str, str] = {}
        for value in values:
            part = slug(value)
            if part not in by_slug:
                by_slug[part] = value
            elif by_slug[part] == value:
                problem("matrix", name, f"{quoted(value)} stands twice; for more images use takes")
            else:
                twins = f"{quoted(by_slug[part])} and {quoted(value)}"
                problem("matrix", name, f"{twins} give the same name ({part})")
        choices[name] = tuple(Choice(part, value) for part, value in by_slug.items())
    return choices
