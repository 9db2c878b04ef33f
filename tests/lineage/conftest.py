"""Fixtures of the lineage tests."""

from pathlib import Path

import pytest

from flux_pipeline.store.folder import FolderStore


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "data")
