"""A real S3 server for tests, in a process of its own, on loopback.

It keeps conditions, checksums and metadata as S3 does. What it doesn't do: check secrets.
"""

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import boto3
from botocore.loaders import JSONFileLoader

from tests.servers.ports import answers, free_port

_SECONDS = 300
_load_file = JSONFileLoader.load_file


@cache
def _read_once(path: str) -> Any:
    return _load_file(JSONFileLoader(), path)


# Every client would read the description of S3 anew, which is half of what a client costs.
JSONFileLoader.load_file = lambda _, path: _read_once(path)  # type: ignore[method-assign]


@dataclass(frozen=True)
class S3Server:
    endpoint: str

    def environment(self) -> dict[str, str]:
        """What boto3 needs to find it."""
        return {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL_S3": self.endpoint,
        }

    def new_bucket(self) -> str:
        """Make an empty bucket; its name."""
        name = f"bucket-{secrets.token_hex(6)}"
        session = boto3.session.Session(
            aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1"
        )
        session.client("s3", endpoint_url=self.endpoint).create_bucket(Bucket=name)
        return name


@contextmanager
def running_s3() -> Iterator[S3Server]:
    """A server without any bucket, stopped at the end."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="s3-") as folder:
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": folder,
            "TMPDIR": folder,
            "GATEWAY_PORT": str(port),
            "BIND_HOST": "127.0.0.1",
            "SERVICES": "s3",
            "IOT_MTLS_ENABLED": "0",
            "PERSIST_STATE": "0",
            "STATE_DIR": folder,
            "S3_PERSIST": "0",
            "S3_DATA_DIR": folder,
        }
        log = Path(folder, "log")
        with log.open("wb") as output:
            server = subprocess.Popen(
                [sys.executable, "-m", "ministack"],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            if not answers(server, port, _SECONDS):
                raise RuntimeError(f"the S3 server did not start: {log.read_text()[-2000:]}")
            yield S3Server(f"http://127.0.0.1:{port}")
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
