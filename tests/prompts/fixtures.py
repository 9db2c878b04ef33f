"""The line that names the model, the types of the fixtures, and the seeds of requests."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from flux_pipeline.errors import Problem
from flux_pipeline.prompts import PromptSet
from flux_pipeline.request import Request

HEAD = "model: lucataco/flux-schnell-lora\n"

Write: TypeAlias = Callable[[str, str | bytes], Path]
Load: TypeAlias = Callable[[str | bytes], PromptSet]
ProblemsOf: TypeAlias = Callable[[str | bytes], list[Problem]]


def seeds(requests: list[Request]) -> list[int | None]:
    return [request.seed for request in requests]
