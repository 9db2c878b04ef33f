"""Fixtures of the lineage tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flux_pipeline.store.local import FolderStore
from tests.servers.s3 import S3Server, s3_server


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderStore:
    """An empty store that doesn't wait for the disk: these tests lose nothing with the machine."""
    monkeypatch.setattr(os, "fsync", bool)
    return FolderStore(tmp_path / "data")


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def bucket(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a new bucket, which boto3's variables lead to."""
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    return s3.new_bucket()
