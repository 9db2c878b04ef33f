"""Traces an image back to its lineage row, and makes it again."""
