"""What the tests of prompt sets share: the line that names the model, and the fixtures' types."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from flux_pipeline.errors import Problem
from flux_pipeline.prompts import PromptSet

HEAD = "model: lucataco/flux-schnell-lora\n"

Write: TypeAlias = Callable[[str, str | bytes], Path]
Load: TypeAlias = Callable[[str | bytes], PromptSet]
ProblemsOf: TypeAlias = Callable[[str | bytes], list[Problem]]
