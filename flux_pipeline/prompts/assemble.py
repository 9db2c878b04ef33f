"""Makes a prompt set of a document, or says everything that is wrong with it."""

import hashlib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flux_pipeline.models import Model, find_model
from flux_pipeline.prompts.check import Findings, check
from flux_pipeline.prompts.entries import read_entries
from flux_pipeline.prompts.entry import Entry
from flux_pipeline.prompts.expansion import Expansion
from flux_pipeline.prompts.explain import explain
from flux_pipeline.prompts.form import ByDay, ByPrompt, PromptSetForm
from flux_pipeline.prompts.names import checked_set_name
from flux_pipeline.prompts.problems import Problems
from flux_pipeline.prompts.prompt_set import PromptSet
from flux_pipeline.prompts.selection import Selection
from flux_pipeline.prompts.version import checked_version
from flux_pipeline.prompts.yaml_document import Document

MAX_BY_PROMPT = 1_000
"""A partition costs the orchestrator 10 to 24 ms: behind this number shards are the right cut."""

TABLE_BYTES_READ_ON_LOADING = 2 * 2**20
"""Loading happens at the start of every process; a larger table is read whole when it is used."""


def assemble(name: str, document: Document, data: bytes, folder: Path) -> PromptSet:
    """The prompt set of a document; ``data`` is what its checksum is taken of.

    Raises:
        ConfigError: with everything that is wrong.
    """
    reader = _Reader(document, Problems())
    set_name = reader.name(name)
    form = reader.form()
    model = reader.model()
    version = reader.version(model)
    entries = reader.entries(model, folder)
    is_small = all(
        entry.table is None or entry.table.size <= TABLE_BYTES_READ_ON_LOADING for entry in entries
    )
    findings = Findings()
    if model is not None:
        expansion = Expansion(document, model, entries)
    ...
