"""Planted secrets are found nowhere but where they belong, at debug level and with failures."""

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from flux_pipeline.emulator.usage import fingerprint_key
from tests.emulator.trap import Trap
from tests.servers.dagster_home import write_dagster_home
from tests.servers.processes import run_command
from tests.servers.s3 import S3Server

KEY = "r8_canarykey7f3a9c1b5d2e8f4a6b0c9d1e2f3a4b5c"
S3_SECRET = "canarysecret7f3a9c1b5d2e8f4a6b0c9d1e2f3a"
LORA_TOKEN = "canarytoken7f3a9c1b5d2e8f4a6b0c9d1e2f3a"
CANARIES = {"key": KEY, "S3 secret": S3_SECRET, "LoRA token": LORA_TOKEN}

CONFIG = f"""
model: lucataco/flux-schnell-lora
defaults:
  output_format: jpg
  aspect_ratio: 9:21
  hf_lora: https://civitai.com/api/download/models/1.safetensors?token={LORA_TOKEN}
prompts: {{a: one, b: two, c: three, d: four, e: five, f: six}}
"""
TROUBLE = FaultPlan.model_validate(
    {
        "seed": 5,
        "cap": 1,
        "create": {"reset_after": 0.2, "html_after": 0.2, "server_error_before": 0.2},
        "outcome": {"failed_permanent": 0.2, "failed_nsfw": 0.1},
        "download": {"redirect_private": 0.2, "html": 0.2, "redirect_other_host": 0.2},
    }
)


@pytest.fixture
def trap() -> Iterator[Trap]:
    with Trap() as running:
        yield running


def hits(data: bytes) -> list[str]:
    return [name for name, canary in CANARIES.items() if canary.encode() in data]


def test_no_secret_reaches_a_log_an_event_a_database_an_object_or_another_host(
    tmp_path: Path, trap: Trap, s3_server: S3Server
) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "tale.yaml").write_text(CONFIG)
    write_dagster_home(tmp_path, keep_output=True)
    bucket = s3_server.new_bucket()
    options = EmulatorOptions(
        time_scale=0, render="cheap", trap_origin=trap.origin, signed_outputs=True
    )
    with EmulatorServer(options, TROUBLE) as server:
        environ = {
            **s3_server.environment(),
            "AWS_SECRET_ACCESS_KEY": S3_SECRET,
            "FLUX_API_KEY": KEY,
            "FLUX_PROVIDER": f"{server.origin}/replicate",
            "FLUX_STORE": f"s3://{bucket}/pictures",
            "FLUX_SETTLE_SECONDS": "0.2",
        }
        for _ in range(2):
            run_command(["--log-level", "DEBUG", "run"], folder=tmp_path, environ=environ)
        keys_seen = server.usage().keys_by_host
        created = server.usage().creates_accepted
    (tmp_path / "configs" / "tale.yaml").unlink()  # where the token was written by hand

    assert created > 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "ledger.db" for path in files)
    assert {str(path): found for path in files if (found := hits(path.read_bytes()))} == {}
    session = boto3.session.Session(
        aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1"
    )
    client = session.client("s3", endpoint_url=s3_server.endpoint)
    objects = [each["Key"] for each in client.list_objects_v2(Bucket=bucket)["Contents"]]
    assert any(key.endswith(".jpg") for key in objects)
    for key in objects:
        stored = client.get_object(Bucket=bucket, Key=key)
        assert hits(stored["Body"].read() + repr(stored["Metadata"]).encode()) == []
    assert {key for keys in keys_seen.values() for key in keys} == {fingerprint_key(KEY)}
    assert trap.received == []
