"""The thin Dagster layer: one component turns a prompt set into its assets."""
