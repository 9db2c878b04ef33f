"""Prompt sets: YAML files and their tables, checked whole, expanded into requests."""

from flux_pipeline.prompts.document import Document, Part
from flux_pipeline.prompts.form import Budget, ByDay, ByPrompt, ByShard, Schedule
from flux_pipeline.prompts.json_schema import json_schema
from flux_pipeline.prompts.load import (
    build_prompt_set,
    load_prompt_set,
    load_prompt_sets,
    read_part,
)
from flux_pipeline.prompts.prompt_set import PromptSet

__all__ = [
    "Budget",
    "ByDay",
    "ByPrompt",
    "ByShard",
    "Document",
    "Part",
    "PromptSet",
    "Schedule",
    "build_prompt_set",
    "json_schema",
    "load_prompt_set",
    "load_prompt_sets",
    "read_part",
]
