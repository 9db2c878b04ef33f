"""Fixtures of the lineage tests."""

import os
from pathlib import Path

import pytest

from flux_pipeline.store.local import FolderStore


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderStore:
    """An empty store that doesn't wait for the disk: these tests lose nothing with the machine."""
    monkeypatch.setattr(os, "fsync", bool)
    return FolderStore(tmp_path / "data")
