"""A folder to write prompt sets into, and what loading says about them."""

from pathlib import Path

import pytest

from flux_pipeline.errors import ConfigError, Problem
from flux_pipeline.prompts import PromptSet, load_prompt_set
from tests.prompts.fixtures import HEAD, Load, ProblemsOf, Write


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file into the test's folder, whatever its content."""

    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def load(write: Write) -> Load:
    """Load a prompt set of this text; the model is put in front of it."""

    def load(text: str | bytes) -> PromptSet:
        content = HEAD + text if isinstance(text, str) else text
        return load_prompt_set(write("x.yaml", content))

    return load


@pytest.fixture
def problems(load: Load) -> ProblemsOf:
    """What is wrong with a prompt set of this text."""

    def problems(text: str | bytes) -> list[Problem]:
        with pytest.raises(ConfigError) as raised:
            load(text)
        return list(raised.value.problems)

    return problems
