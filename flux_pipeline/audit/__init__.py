"""Compares provider, ledger, store and lineage table, and repairs what is missing or unfinished."""
