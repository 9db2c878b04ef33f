"""Prompt sets: YAML files and their tables, checked whole, expanded into requests."""

from flux_pipeline.prompts.form import Budget, ByDay, ByPrompt, ByShard, Schedule
from flux_pipeline.prompts.load import (
    build_prompt_set,
    key_lines,
    load_prompt_set,
    load_prompt_sets,
)
from flux_pipeline.prompts.prompt_set import PromptSet
from flux_pipeline.prompts.schema import json_schema

__all__ = [
    "Budget",
    "ByDay",
    "ByPrompt",
    "ByShard",
    "PromptSet",
    "Schedule",
    "build_prompt_set",
    "json_schema",
    "key_lines",
    "load_prompt_set",
    "load_prompt_sets",
]
