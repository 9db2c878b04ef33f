"""Prompt sets: YAML files and their tables, checked whole, expanded into requests."""
