"""The calls about models and their versions, and about uploaded files."""

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import Response

from flux_pipeline.emulator import files, replies
from flux_pipeline.emulator.contracts import Contract
from flux_pipeline.emulator.emulator import Emulator
from flux_pipeline.emulator.fault_replies import broken_reply
from flux_pipeline.emulator.faults import draw_fault
from flux_pipeline.emulator.files import StoredFile, read_upload
from flux_pipeline.emulator.model_replies import model_reply, version_reply
from flux_pipeline.emulator.replies import json_response
from flux_pipeline.emulator.requests import admit

_FORM_BYTES = 65_536
"""Room in an upload's body for all that is not the content."""
_NEWEST = 2**62
_NOTHING_STORED = frozenset({"unauthorized", "refused", "too_large", "throttled_header"})
"""Upload faults that store nothing, besides those that end in ``_before``."""


@dataclass(frozen=True, slots=True)
class Models:
    """Handles the calls about models and their versions."""

    emulator: Emulator

    async def get(self, request: Request) -> Response:
        """A model with its latest version."""
        return json_response(model_reply(self._contracts(request)[-1]))

    async def versions(self, request: Request) -> Response:
        """The versions of a model; an official one shows none."""
        shown = [each for each in self._contracts(request) if not each.is_official]
        results = [version_reply(contract) for contract in reversed(shown)]
        return json_response({"next": None, "previous": None, "results": results})

    async def version(self, request: Request) -> Response:
        """One version of a model."""
        wanted = request.path_params["id"]
        for contract in self._contracts(request):
            if contract.version == wanted and not contract.is_official:
                return json_response(version_reply(contract))
        raise replies.not_found()

    def _contracts(self, request: Request) -> tuple[Contract, ...]:
        admit(self.emulator, request, "calls")
        path = request.path_params
        found = self.emulator.contracts(f"{path['owner']}/{path['name']}")
        if not found or not self.emulator.options.models_enabled:
            raise replies.not_found()
        return found


@dataclass(frozen=True, slots=True)
class Uploads:
    """Handles the calls about files that clients upload, to name them in inputs."""

    emulator: Emulator

    async def all(self, request: Request) -> Response:
        """Store a file, or list those that are there."""
        return await (self.post if request.method == "POST" else self.list)(request)

    async def one(self, request: Request) -> Response:
        """What is known of a file, or its deletion."""
        return await (self.delete if request.method == "DELETE" else self.get)(request)

    async def post(self, request: Request) -> Response:
        """Store a file for a while."""
        self._admit(request)
        options, faults = self.emulator.options, self.emulator.faults
        body = await _read_body(request, options.max_file_bytes)
        try:
            upload = read_upload(body, request.headers.get("content-type", ""))
        except ValueError as error:
            raise replies.malformed(str(error)) from None
        if len(upload.content) > options.max_file_bytes:
            raise replies.too_large(options.max_file_bytes)
        identity, now = files.sha256_of(upload.content), self.emulator.clock()
        with self.emulator.state.transaction() as connection:
            fault = draw_fault(connection, faults, "upload", identity)
            if fault is not None and (fault.endswith("_before") or fault in _NOTHING_STORED):
                return broken_reply(self.emulator, fault, identity)
            expires_at = now + options.file_seconds
            file = files.insert(connection, upload, now=now, expires_at=expires_at)
        reply = json_response(_file_object(request, file), 201)
        if fault == "slow":
            await anyio.sleep(faults.late_seconds)
            return reply
        return reply if fault is None else broken_reply(self.emulator, fault, identity, reply)

    async def get(self, request: Request) -> Response:
        """What is known of a file; its content is for predictions alone."""
        return json_response(_file_object(request, self._find(request)))

    async def delete(self, request: Request) -> Response:
        """Let a file be gone."""
        file = self._find(request)
        with self.emulator.state.transaction() as connection:
            files.remove(connection, file.id, self.emulator.clock())
        return Response(status_code=204)

    async def list(self, request: Request) -> Response:
        """A page of files, newest first."""
        self._admit(request)
        size = self.emulator.options.page_size
        before, now = _position(request.query_params.get("cursor")), self.emulator.clock()
        with self.emulator.state.reading() as connection:
            found = files.page(connection, now, older_than=before, limit=size + 1)
        results = [_file_object(request, file) for file in found[:size]]
        following = None
        if len(found) > size:
            cursor = base64.urlsafe_b64encode(str(found[size - 1].seq).encode()).decode()
            trap = self.emulator.options.trap_origin
            following = f"{trap}{request.url.path}?cursor={cursor}"
        return json_response({"next": following, "previous": None, "results": results})

    def _admit(self, request: Request) -> None:
        admit(self.emulator, request, "calls")
        if not self.emulator.options.files_enabled:
            raise replies.not_found()

    def _find(self, request: Request) -> StoredFile:
        self._admit(request)
        with self.emulator.state.reading() as connection:
            file = files.find(connection, request.path_params["id"])
        if file is None or not file.is_there(self.emulator.clock()):
            raise replies.not_found()
        return file


async def _read_body(request: Request, most: int) -> bytes:
    """The body; what is too large is read to its end, so that the client gets its answer."""
    kept = bytearray()
    total = 0
    async for piece in request.stream():
        total += len(piece)
        if total <= most + _FORM_BYTES:
            kept += piece
    if total > most + _FORM_BYTES:
        raise replies.too_large(most)
    return bytes(kept)


def _position(cursor: str | None) -> int:
    if cursor is None:
        return _NEWEST
    try:
        return min(max(int(base64.urlsafe_b64decode(cursor.encode()).decode()), 0), _NEWEST)
    except (ValueError, binascii.Error):
        raise replies.malformed("The cursor is not one of this list.") from None


def _file_object(request: Request, file: StoredFile) -> dict[str, Any]:
    digits = replies.fractional_digits(file.id)
    prefix = request.url.path.partition("/files")[0]
    return {
        "id": file.id,
        "name": file.name,
        "content_type": file.content_type,
        "size": file.size,
        "etag": file.md5,
        "checksums": {"sha256": file.sha256, "md5": file.md5},
        "metadata": dict(file.metadata),
        "created_at": replies.timestamp(file.created_at, digits),
        "expires_at": replies.timestamp(file.expires_at, digits),
        "urls": {"get": f"{replies.origin_of(request)}{prefix}/files/{file.id}"},
    }
