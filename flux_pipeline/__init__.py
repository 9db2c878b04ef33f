"""Declarative image production on Dagster: every image paid once, kept, and traceable."""
