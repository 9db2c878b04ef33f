"""Uploads: what is sent, which replies count, and what becomes of a provider without files."""

import asyncio
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from email.message import Message
from email.parser import BytesParser
from typing import Any

import pytest

from flux_pipeline.outcomes import NoFiles, Uploaded, UploadFailed, UploadOutcome
from flux_pipeline.provider.client import Provider
from tests.provider.samples import KEY, Configured, http, patience
from tests.provider.scripted_server import (
    Script,
    Serve,
    answering,
    hang_after_request,
    reset_after_request,
)

pytestmark = pytest.mark.anyio

CONTENT = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
SHA256 = hashlib.sha256(CONTENT).hexdigest()
URL = "https://api.example/v1/files/f1"


def file_fields(**changes: Any) -> dict[str, Any]:
    """A reply as the provider's document shows it."""
    return {
        "id": "f1",
        "content_type": "image/png",
        "size": len(CONTENT),
        "checksums": {"sha256": SHA256},
        "metadata": {},
        "created_at": "2026-01-02T03:04:05.678Z",
        "expires_at": "2026-01-03T03:04:05.678Z",
        "urls": {"get": URL},
        **changes,
    }


async def upload(provider: Provider, filename: str = "castle.png") -> UploadOutcome:
    return await provider.upload(CONTENT, filename=filename, content_type="image/png")


async def answer_to_upload(
    serve: Serve, configured: Configured, script: Script, **changes: Any
) -> UploadOutcome:
    async with (
        serve(script) as server,
        Provider(configured(server.origin, **changes)) as provider,
    ):
        return await upload(provider)


def parts_of(request: bytes) -> Mapping[str, Message]:
    """The parts of a multipart request, by their names."""
    head, _, body = request.partition(b"\r\n\r\n")
    fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:])
    boundary = head.split(b"boundary=")[1].split(b"\r\n")[0]
    assert fields[b"content-type"].startswith(b"multipart/form-data")
    kind = b"Content-Type: multipart/form-data; boundary=" + boundary
    form = BytesParser().parsebytes(kind + b"\r\n\r\n" + body)
    return {
        str(part.get_param("name", header="content-disposition")): part
        for part in form.walk()
        if not part.is_multipart()
    }


async def test_a_file_is_sent_as_a_form_and_its_address_is_read(
    serve: Serve, configured: Configured
) -> None:
    reply = http(file_fields(), status=201)
    async with (
        serve(answering(reply)) as server,
        Provider(configured(server.origin + "/replicate")) as provider,
    ):
        outcome = await upload(provider)
    assert outcome == Uploaded(
        id="f1",
        url=URL,
        expires_at=datetime(2026, 1, 3, 3, 4, 5, 678000, tzinfo=UTC),
        sha256=SHA256,
    )
    assert URL not in repr(outcome)
    request = server.requests[0]
    assert request.startswith(b"POST /replicate/v1/files HTTP/1.1\r\n")
    assert f"authorization: Bearer {KEY}".encode() in request
    parts = parts_of(request)
    assert parts["content"].get_payload(decode=True) == CONTENT
    assert parts["content"].get_filename() == "castle.png"
    assert parts["content"].get_content_type() == "image/png"
    assert parts["filename"].get_payload() == "castle.png"
    assert parts["type"].get_payload() == "image/png"


@pytest.mark.parametrize(
    ("filename", "sent"),
    [
        ("a" * 300 + ".png", "a" * 251 + ".png"),
        ("\u57ce" * 100 + ".png", "\u57ce" * 83 + ".png"),
        ('a"\r\nX-Evil: 1\r\n.png', None),
        ("", "file"),
    ],
)
async def test_a_name_of_any_form_stays_within_its_field(
    serve: Serve, configured: Configured, filename: str, sent: str | None
) -> None:
    reply = http(file_fields(), status=201)
    async with serve(answering(reply)) as server, Provider(configured(server.origin)) as provider:
        assert isinstance(await upload(provider, filename), Uploaded)
    parts = parts_of(server.requests[0])
    assert parts.keys() == {"content", "filename", "type"}
    assert parts["content"].get_payload(decode=True) == CONTENT
    assert parts["content"]["X-Evil"] is None
    if sent is not None:
        payload = parts["filename"].get_payload(decode=True)
        assert isinstance(payload, bytes)
        assert payload.decode() == sent


@pytest.mark.parametrize(
    "changes",
    [
        {"id": None, "checksums": None, "expires_at": "soon", "size": "x"},
        {"checksums": {"sha256": SHA256.upper(), "md5": 7}},
        {"checksums": {}, "metadata": None},
    ],
)
async def test_of_a_reply_the_address_alone_has_to_be_there(
    serve: Serve, configured: Configured, changes: dict[str, Any]
) -> None:
    reply = http(file_fields(**changes), status=200)
    outcome = await answer_to_upload(serve, configured, answering(reply))
    assert isinstance(outcome, Uploaded)
    assert outcome.url == URL
    assert (outcome.expires_at is None) == ("expires_at" in changes)


@pytest.mark.parametrize(
    "urls",
    [
        None,
        {},
        {"get": 7},
        {"get": "http://files.example/f1"},
        {"get": "ftp://files.example/f1"},
        {"get": "https://user:canary@files.example/f1"},
        {"get": "https://"},
        {"get": "https://[/f1"},
        {"get": "data:,x"},
        {"get": "/v1/files/f1"},
    ],
)
async def test_an_address_that_is_not_https_is_not_taken(
    serve: Serve, configured: Configured, urls: object
) -> None:
    reply = http(file_fields(urls=urls), status=201)
    outcome = await answer_to_upload(serve, configured, answering(reply))
    assert isinstance(outcome, UploadFailed)
    assert not outcome.retry
    assert "canary" not in outcome.reason


async def test_the_providers_own_origin_is_taken_as_it_is_and_never_fetched(
    serve: Serve, configured: Configured
) -> None:
    async with serve() as server:
        own = f"{server.origin}/v1/files/f1"
        server._scripts = [answering(http(file_fields(urls={"get": own}), status=201))]
        async with Provider(configured(server.origin)) as provider:
            outcome = await upload(provider)
    assert isinstance(outcome, Uploaded)
    assert outcome.url == own
    assert server.targets == ["POST /v1/files"]


@pytest.mark.parametrize(
    ("script", "retry", "words"),
    [
        (answering(http({"detail": "Files must be smaller"}, status=413)), False, "smaller"),
        (answering(http({"detail": "no such type"}, status=422)), False, "no such type"),
        (answering(http({"detail": "Unauthenticated"}, status=401)), False, "401"),
        (answering(http(b"<html>", status=502)), True, "502"),
        (answering(http({"detail": "slow down"}, status=429)), True, "429"),
        (answering(http(b"<html>", status=201)), True, "no JSON"),
        (answering(http([], status=201)), True, "no JSON object"),
        (
            answering(http(file_fields(checksums={"sha256": "0" * 64}), status=201)),
            True,
            "arrived changed",
        ),
        (answering(http(b"", status=302, headers={"Location": "https://a.example"})), False, "302"),
        (reset_after_request, True, "no file was uploaded"),
    ],
)
async def test_what_fails_says_whether_the_same_upload_may_succeed_later(
    serve: Serve, configured: Configured, script: Script, retry: bool, words: str
) -> None:
    outcome = await answer_to_upload(serve, configured, script)
    assert isinstance(outcome, UploadFailed), outcome
    assert outcome.retry is retry
    assert words in outcome.reason
    assert outcome.reason.startswith("127.0.0.1: ")


async def test_an_upload_has_a_deadline(serve: Serve, configured: Configured) -> None:
    limits = patience(upload=0.05)
    outcome = await answer_to_upload(serve, configured, hang_after_request, timeouts=limits)
    assert isinstance(outcome, UploadFailed)
    assert outcome.retry


async def test_a_hint_to_wait_is_passed_on(serve: Serve, configured: Configured) -> None:
    reply = http({"detail": "slow down"}, status=429, headers={"Retry-After": "7"})
    outcome = await answer_to_upload(serve, configured, answering(reply))
    assert isinstance(outcome, UploadFailed)
    assert outcome.retry_after == 7.0


async def test_a_file_that_is_too_large_is_not_sent(serve: Serve, configured: Configured) -> None:
    async with (
        serve(answering(http(file_fields(), status=201))) as server,
        Provider(configured(server.origin, max_upload_bytes=len(CONTENT) - 1)) as provider,
    ):
        outcome = await upload(provider)
    assert server.requests == []
    assert isinstance(outcome, UploadFailed)
    assert not outcome.retry
    assert f"{len(CONTENT):,} bytes" in outcome.reason


@pytest.mark.parametrize("status", [404, 405, 410, 501])
async def test_a_provider_without_files_is_asked_once(
    serve: Serve, configured: Configured, status: int
) -> None:
    reply = http({"detail": "not found"}, status=status)
    async with serve(answering(reply)) as server, Provider(configured(server.origin)) as provider:
        outcomes = [await upload(provider) for _ in range(3)]
    assert [type(each) for each in outcomes] == [NoFiles] * 3
    assert len(server.requests) == 1


async def test_a_provider_that_is_known_to_have_no_files_is_not_asked(
    serve: Serve, configured: Configured
) -> None:
    async with (
        serve(answering(http(file_fields(), status=201))) as server,
        Provider(configured(server.origin, has_files=False)) as provider,
    ):
        assert isinstance(await upload(provider), NoFiles)
    assert server.requests == []


async def test_a_404_where_files_were_taken_before_is_a_failure(
    serve: Serve, configured: Configured
) -> None:
    replies = http(file_fields(), status=201), http({"detail": "gone"}, status=404)
    async with (
        serve(answering(*replies)) as server,
        Provider(configured(server.origin)) as provider,
    ):
        outcomes = [await upload(provider) for _ in range(3)]
    assert [type(each) for each in outcomes] == [Uploaded, UploadFailed, UploadFailed]
    assert len(server.requests) == 3


async def test_no_reason_holds_the_key(serve: Serve, configured: Configured) -> None:
    reply = http({"detail": f"{KEY} is refused"}, status=400)
    outcome = await answer_to_upload(serve, configured, answering(reply))
    assert isinstance(outcome, UploadFailed)
    assert KEY not in outcome.reason


async def test_uploads_run_side_by_side(serve: Serve, configured: Configured) -> None:
    reply = http(file_fields(), status=201)
    async with serve(answering(reply)) as server, Provider(configured(server.origin)) as provider:
        outcomes = await asyncio.gather(*(upload(provider) for _ in range(8)))
    assert all(isinstance(each, Uploaded) for each in outcomes)
    assert server.connections <= 8
