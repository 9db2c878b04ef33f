"""Fixtures of the lineage tests."""

import os
from pathlib import Path

import pytest

from flux_pipeline.store.local import FolderStore
from tests.servers.s3 import S3Server


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderStore:
    """An empty store that doesn't wait for the disk: these tests lose nothing with the machine."""
    monkeypatch.setattr(os, "fsync", bool)
    return FolderStore(tmp_path / "data")


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a new bucket, which boto3's variables lead to."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return s3_server.new_bucket()
