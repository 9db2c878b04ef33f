"""Prompt sets: YAML files and tables, checked whole and expanded into requests."""

from flux_pipeline.prompts.json_schema import json_schema
from flux_pipeline.prompts.load import (
    build_prompt_set,
    load_prompt_set,
    load_prompt_sets,
    read_section,
)
from flux_pipeline.prompts.prompt_set import PromptSet, all_followers, group_by_chain, in_order
from flux_pipeline.prompts.schema import Budget, ByDay, ByPrompt, ByShard, Schedule
from flux_pipeline.prompts.yaml_document import Document, YamlSection

__all__ = [
    "Budget",
    "ByDay",
    "ByPrompt",
    "ByShard",
    "Document",
    "PromptSet",
    "Schedule",
    "YamlSection",
    "all_followers",
    "build_prompt_set",
    "group_by_chain",
    "in_order",
    "json_schema",
    "load_prompt_set",
    "load_prompt_sets",
    "read_section",
]
