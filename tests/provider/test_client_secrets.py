"""A canary key is searched for in everything that leaves the client, and on every other host."""

import asyncio
import io
import logging
import time
import traceback
from datetime import UTC, datetime
from typing import Any

import pytest

from flux_pipeline.errors import DownloadError
from flux_pipeline.outcomes import Accepted, Polled
from flux_pipeline.prediction import Output
from flux_pipeline.provider.client import Provider
from tests.provider.samples import (
    ID,
    IMAGE_REPLY,
    KEY,
    Configured,
    http,
    make_request,
    patience,
    prediction_fields,
)
from tests.provider.scripted_server import (
    Script,
    Serve,
    answering,
    close_after_request,
    hang_after_request,
    partly,
    reset_after_request,
)

pytestmark = pytest.mark.anyio


ECHO: list[Script] = [
    answering(
        http({"detail": f"the key {KEY} is wrong"}, status=status, headers={"Retry-After": "0.01"})
    )
    for status in (400, 401, 402, 404, 422, 429, 500)
] + [
    answering(http({"error": {"message": f"Bearer {KEY}", "code": KEY}})),
    answering(http(prediction_fields(error=KEY, logs=KEY, model=KEY, input={KEY: KEY}))),
    answering(http({"created": 1, "data": [{"url": f"http://127.0.0.1:1/{KEY}"}], "x": KEY})),
    answering(http({"results": [prediction_fields(logs=KEY)], "next": f"https://x/?{KEY}"})),
    answering(http(KEY.encode(), headers={"Content-Type": KEY})),
    answering(http(status=302, headers={"Location": f"https://evil.example/?{KEY}"})),
    partly(f"HTTP/1.1 200 {KEY}\r\nContent-Length: x{KEY}\r\n\r\n".encode(), then="close"),
    partly(f"{KEY} {KEY}\r\n\r\n".encode(), then="close"),
    reset_after_request,
    close_after_request,
    hang_after_request,
]


def shown(value: object) -> str:
    """Everything that a log line, a database or a debugger would show of it."""
    parts = [repr(value), str(value)]
    if isinstance(value, BaseException):
        parts += traceback.format_exception(value)
    prediction = getattr(value, "prediction", None)
    if prediction is not None:
        parts += [prediction.raw, prediction.logs, str(prediction.error), str(prediction.input)]
        parts += [prediction.model, prediction.version]
    return "\n".join(parts)


@pytest.mark.parametrize("script", ECHO)
async def test_no_outcome_and_no_log_line_holds_the_key(
    serve: Serve, configured: Configured, script: Script
) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    seen: list[Any] = []
    try:
        async with serve(script) as server:
            limits = patience()
            if script is hang_after_request:
                limits = patience(create=0.05, call=0.05, download=0.05)
            config = configured(server.origin, timeouts=limits, page_tries=1)
            async with Provider(config) as provider:
                logging.getLogger("httpx").setLevel(logging.DEBUG)
                seen += [
                    config,
                    provider,
                    await provider.create(make_request()),
                    await provider.find(make_request(), since=0.0),
                    await provider.poll(ID),
                ]
                try:
                    await provider.download(Output(0, f"{server.origin}/x?token={KEY}"))
                except DownloadError as error:
                    seen.append(error)
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
        logging.getLogger("httpx").setLevel(logging.WARNING)
    assert KEY not in stream.getvalue()
    for each in seen:
        assert KEY not in shown(each)


async def test_no_other_host_ever_sees_the_key(serve: Serve, configured: Configured) -> None:
    """Every URL in the replies points elsewhere; only our own base is asked, and with the key."""
    async with serve(answering(http(b"RIFF", headers={"Content-Type": "image/webp"}))) as trap:
        elsewhere = dict.fromkeys(
            ("get", "cancel", "stream", "web"), f"{trap.origin}/v1/predictions/{ID}"
        )
        fields = prediction_fields(
            status="succeeded", urls=elsewhere, output=[f"{trap.origin}/out-0.webp"]
        )
        recent = {**fields, "created_at": datetime.now(UTC).isoformat()}
        listed = {"results": [recent], "next": f"{trap.origin}/v1/predictions?cursor=2"}
        last: dict[str, Any] = {"results": [], "next": None}
        api = [http(fields, status=201), http(fields), http(fields), http(listed), http(last)]
        async with (
            serve(answering(*api)) as server,
            Provider(configured(server.origin)) as provider,
        ):
            created = await provider.create(make_request())
            polled = await provider.poll(ID)
            await provider.cancel(ID)
            await provider.find(make_request(seed=99), since=time.time())
            assert isinstance(created, Accepted)
            assert isinstance(polled, Polled)
            with pytest.raises(DownloadError):
                await provider.download(polled.prediction.outputs[0])
    assert trap.connections == 0
    assert len(server.requests) == 5
    assert server.targets[-1] == "GET /v1/predictions?cursor=2"
    assert all(KEY.encode() in each for each in server.requests)


async def test_an_allowed_host_is_asked_without_the_key(
    serve: Serve, configured: Configured
) -> None:
    async with (
        serve(answering(IMAGE_REPLY)) as server,
        Provider(configured(server.origin)) as provider,
    ):
        await provider.download(Output(0, f"{server.origin}/out-0.webp"))
    assert KEY.encode() not in server.requests[0]
