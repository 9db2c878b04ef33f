"""Requests and replies that many tests need."""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import pytest

from flux_pipeline.errors import DownloadError
from flux_pipeline.prediction import Output
from flux_pipeline.provider.config import ProviderConfig, Timeouts
from flux_pipeline.provider.download import Downloader
from flux_pipeline.request import Request, Source, fingerprint

Configured: TypeAlias = Callable[..., ProviderConfig]
"""The fixture ``configured``."""
PATIENCE = 60.0
"""s; nothing that is waited for takes as long, however busy the machine."""
KEY = "canary-b7Qx0vTz41-key"
MODEL = "lucataco/flux-schnell-lora"
VERSION = "2a6b576af31790b470f0a8442e1e9791213fa13799cbb65a9fc1436e96389574"
ID = "nfg4nbtgm9rj00crankr6ft6t0"


def patience(**changes: float) -> Timeouts:
    """Limits that no test meets but those that it names."""
    names = ("connect", "create", "call", "upload", "download", "silence")
    return Timeouts(**{**dict.fromkeys(names, PATIENCE), **changes})


def make_request(*, seed: int | None = 7, **changes: Any) -> Request:
    given: dict[str, Any] = {
        "prompt": "a castle",
        "num_outputs": 1,
        "aspect_ratio": "1:1",
        "output_format": "webp",
        **changes,
    }
    if seed is not None:
        given["seed"] = seed
    return Request(
        model=MODEL,
        version=VERSION,
        input=given,
        request_sha256=fingerprint(VERSION, given),
        outputs=1,
        width=1024,
        height=1024,
        image_format="webp",
        cost_usd=0.003,
        source=Source("set", "castle"),
    )


def prediction_fields(**changes: Any) -> dict[str, Any]:
    """A reply as the seed document shows it."""
    return {
        "id": ID,
        "model": MODEL,
        "version": VERSION,
        "input": {"prompt": "a castle", "num_outputs": 1, "seed": 7},
        "logs": "",
        "output": None,
        "data_removed": False,
        "error": None,
        "status": "starting",
        "created_at": "2025-07-29T08:58:10.978Z",
        "urls": {"get": f"https://api.replicate.com/v1/predictions/{ID}"},
        **changes,
    }


def http(body: Any = b"", *, status: int = 200, headers: Mapping[str, str] | None = None) -> bytes:
    """One whole HTTP reply; what is not bytes is sent as JSON."""
    kind = {} if isinstance(body, bytes) else {"Content-Type": "application/json"}
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {**kind, "Content-Length": str(len(payload)), **(headers or {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Some\r\n{lines}\r\n".encode() + payload


IMAGE = b"RIFF\x08\x28\x00\x00WEBP" + bytes(range(256)) * 40
"""Passes for a WebP where nobody decodes it."""

IMAGE_REPLY = http(IMAGE, headers={"Content-Type": "image/webp"})


async def failing(downloads: Downloader, url: str) -> DownloadError:
    """The error of a download that must not succeed."""
    with pytest.raises(DownloadError) as refused:
        await downloads.fetch(Output(0, url))
    return refused.value
