import subprocess
import sys
from pathlib import Path

import pytest

from flux_pipeline.errors import StoreError
from flux_pipeline.store.local import FolderStore
from flux_pipeline.store.open import open_store, sharing_stores
from flux_pipeline.store.s3 import S3Store
from flux_pipeline.store_options import StoreOptions


@pytest.mark.parametrize(
    ("address", "uri"),
    [
        ("file:data", "{cwd}/data"),
        ("file:./data/images", "{cwd}/data/images"),
        ("file:/srv/my pictures", "file:///srv/my%20pictures"),
        ("file:/srv/a%20b", "file:///srv/a%2520b"),
        ("file:///srv/a%20b", "file:///srv/a%20b"),
        ("file://localhost/srv", "file:///srv"),
        ("file:/srv/me@home?", "file:///srv/me%40home%3F"),
        ("file:.", "{cwd}"),
    ],
)
def test_a_folder_is_opened(
    address: str, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(address)
    assert isinstance(store, FolderStore)
    assert store.uri == uri.format(cwd=tmp_path.as_uri())
    assert open_store(store.uri).uri == store.uri
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_is_opened_without_asking_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    store = open_store("s3://my.bucket-1/a/B_c=1//")
    assert isinstance(store, S3Store)
    assert store.uri == "s3://my.bucket-1/a/B_c=1"


@pytest.mark.parametrize("address", ["s3://bucket", "s3://bucket/"])
def test_a_bucket_may_have_no_prefix(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flux_pipeline.store.s3.open_client", lambda *_: None)
    assert open_store(address).uri == "s3://bucket"


@pytest.mark.parametrize(
    "address",
    [
        "",
        "data",
        "/data",
        "file:",
        "file://",
        "file:///",
        "file://server/share",
        "file:~/data",
        "file:a\0b",
        "s3:",
        "s3:bucket",
        "s3://",
        "s3:///key",
        "s3://ab",
        "s3://Bucket",
        "s3://bucket/../other",
        "s3://bucket/a//b",
        "s3://bucket/.hidden",
        "s3://bucket/a b",
        "s3://bucket/" + "a" * 201,
        "gs://bucket",
        "https://bucket.s3.amazonaws.com",
        "S3://bucket",
    ],
)
def test_any_other_address_is_refused_with_the_form_that_is_right(address: str) -> None:
    with pytest.raises(StoreError, match="store") as caught:
        open_store(address)
    assert repr(address) in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "s3://AKIA:secret@bucket/prefix",
        "s3://bucket/?secret=1",
        "https://user:secret@host/bucket",
        "https://host/bucket?X-Amz-Signature=secret",
    ],
)
def test_an_address_that_may_hold_a_secret_is_not_repeated(address: str) -> None:
    with pytest.raises(StoreError, match="s3://bucket/prefix") as caught:
        open_store(address)
    assert "secret" not in str(caught.value)


def test_one_store_is_shared_within_a_block_and_by_nothing_else(tmp_path: Path) -> None:
    address, only = f"file:{tmp_path}", StoreOptions(writers="one")
    with sharing_stores():
        first = open_store(address)
        assert open_store(address) is first
        assert open_store(address, StoreOptions()) is first
        assert open_store(address, only) is not first
        assert open_store(f"{address}/other").uri == f"{first.uri}/other"
        with pytest.raises(StoreError):
            open_store("nowhere")
    assert open_store(address) is not first
    with sharing_stores():
        assert open_store(address) is not first


def test_a_folder_costs_neither_boto3_nor_arrow() -> None:
    script = (
        "import sys; from flux_pipeline.store.open import open_store; open_store('file:x');"
        "import flux_pipeline.lineage.record;"
        "print({'boto3', 'botocore', 'pyarrow', 'pandas', 'numpy'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert found.stdout == "set()\n"
