"""Uploaded files and fetched pictures in the state, and the form in which an upload comes.

Contents are kept by their SHA-256, also of files that expired or were deleted: the state knows what
each prediction was made from.
"""

import base64
import hashlib
import json
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from flux_pipeline.emulator import records

DEFAULT_TYPE = "application/octet-stream"
MAX_NAME_BYTES = 255
_PATH = re.compile(r"(?:/replicate)?/v1/files/([0-9a-z]{1,40})")


@dataclass(frozen=True, slots=True)
class Upload:
    """An uploaded file's content, and what was said of it."""

    content: bytes
    name: str
    content_type: str = DEFAULT_TYPE
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An uploaded file, without its content."""

    id: str
    name: str
    content_type: str
    size: int
    """bytes"""
    sha256: str
    md5: str
    metadata: Mapping[str, Any] = field(hash=False)
    created_at: float
    expires_at: float
    deleted_at: float | None = None
    seq: int = 0

    def is_there(self, now: float) -> bool:
        """Whether it neither expired nor was deleted before ``now`` (s since the epoch)."""
        return now < min(self.expires_at, self.deleted_at or self.expires_at)


@dataclass(frozen=True, slots=True)
class FetchedPicture:
    """A picture that a prediction was made from."""

    input: str
    position: int
    """In the input's list, from 0; -1 where the input takes one picture."""
    sha256: str
    bytes: int
    width: int
    height: int
    """px"""


def read_upload(body: bytes, content_type: str) -> Upload:
    """The upload in a multipart body: ``content``, ``filename``, ``type`` and ``metadata``.

    Raises:
        ValueError: The body is no such form; the message says why.
    """
    parts = _parts(body, content_type)
    if "content" not in parts:
        raise ValueError("The part content is required.")
    about, content = parts["content"]
    texts = {name: _text(name, value) for name, (_, value) in parts.items() if name != "content"}
    name = texts.get("filename") or about.get_filename() or "file"
    if len(name.encode("utf-8", "surrogateescape")) > MAX_NAME_BYTES:
        raise ValueError(f"filename is longer than {MAX_NAME_BYTES} bytes.")
    declared = about.get_content_type() if about["content-type"] else DEFAULT_TYPE
    return Upload(content, name, texts.get("type") or declared, _metadata(texts.get("metadata")))


def insert(
    connection: sqlite3.Connection, upload: Upload, *, now: float, expires_at: float
) -> StoredFile:
    """Store an upload under a new id."""
    file = StoredFile(
        id=records.new_id(),
        name=upload.name,
        content_type=upload.content_type,
        size=len(upload.content),
        sha256=keep(connection, upload.content),
        md5=hashlib.md5(upload.content, usedforsecurity=False).hexdigest(),
        metadata=upload.metadata,
        created_at=now,
        expires_at=expires_at,
    )
    connection.execute(
        "INSERT INTO files (id, name, content_type, size, sha256, md5, metadata, created_at,"
        " expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            file.id,
            file.name,
            file.content_type,
            file.size,
            file.sha256,
            file.md5,
            json.dumps(file.metadata),
            file.created_at,
            file.expires_at,
        ),
    )
    return file


def find(connection: sqlite3.Connection, file_id: str) -> StoredFile | None:
    """The file with this id, there or not any more, or None."""
    row = connection.execute("SELECT * FROM files WHERE id = ?", (file_id,)).fetchone()
    return None if row is None else _from_row(row)


def find_by_url(connection: sqlite3.Connection, url: str) -> StoredFile | None:
    """The uploaded file at an address, on whatever host: its id is in no other state."""
    if is_data_uri(url):
        return None
    found = _PATH.fullmatch(urlsplit(url).path)
    return find(connection, found[1]) if found else None


def page(
    connection: sqlite3.Connection, now: float, *, older_than: int, limit: int
) -> list[StoredFile]:
    """Files that are there, newest first, seq below ``older_than``."""
    rows = connection.execute(
        "SELECT * FROM files WHERE seq < ? AND expires_at > ? AND deleted_at IS NULL"
        " ORDER BY seq DESC LIMIT ?",
        (older_than, now, limit),
    )
    return [_from_row(row) for row in rows]


def remove(connection: sqlite3.Connection, file_id: str, now: float) -> None:
    """Delete a file; the first time counts."""
    connection.execute(
        "UPDATE files SET deleted_at = coalesce(deleted_at, ?) WHERE id = ?", (now, file_id)
    )


def keep(connection: sqlite3.Connection, content: bytes) -> str:
    """Keep a content, and return its SHA-256 as 64 hex digits."""
    sha256 = sha256_of(content)
    connection.execute("INSERT OR IGNORE INTO contents VALUES (?, ?)", (sha256, content))
    return sha256


def sha256_of(content: bytes) -> str:
    """64 hex digits that name a content."""
    return hashlib.sha256(content).hexdigest()


def is_data_uri(url: str) -> bool:
    """Whether the address holds its content itself."""
    return url[:5].lower() == "data:"


def read_data_uri(url: str) -> bytes:
    """The content of a data URI.

    Raises:
        ValueError: It is none.
    """
    head, found, text = url.partition(",")
    if not found:
        raise ValueError("a data URI has a comma")
    raw = unquote_to_bytes(text)
    return base64.b64decode(raw, validate=True) if head.endswith(";base64") else raw


def content_of(connection: sqlite3.Connection, sha256: str) -> bytes:
    """A content that was kept."""
    row = connection.execute("SELECT content FROM contents WHERE sha256 = ?", (sha256,)).fetchone()
    return bytes(row["content"])


def insert_fetched(
    connection: sqlite3.Connection, prediction_id: str, place: int, picture: FetchedPicture
) -> None:
    """Note the picture that a prediction was made from; ``place`` counts them from 0."""
    connection.execute(
        "INSERT OR IGNORE INTO fetched VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            prediction_id,
            place,
            picture.input,
            picture.position,
            picture.sha256,
            picture.bytes,
            picture.width,
            picture.height,
        ),
    )


def fetched_by(connection: sqlite3.Connection, prediction_id: str) -> list[FetchedPicture]:
    """The pictures that a prediction was made from, in order."""
    rows = connection.execute(
        "SELECT * FROM fetched WHERE prediction_id = ? ORDER BY place", (prediction_id,)
    )
    return [fetched_from_row(row) for row in rows]


def fetched_from_row(row: sqlite3.Row) -> FetchedPicture:
    """The picture that a row of the table holds."""
    values = dict(row)
    del values["prediction_id"], values["place"]
    return FetchedPicture(**values)


def _from_row(row: sqlite3.Row) -> StoredFile:
    values = dict(row)
    return StoredFile(**{**values, "metadata": json.loads(values["metadata"])})


def _parts(body: bytes, content_type: str) -> dict[str, tuple[EmailMessage, bytes]]:
    """Headers and content of each named part of a multipart body."""
    whole = EmailMessage()
    whole["content-type"] = content_type
    boundary = whole.get_boundary()
    if whole.get_content_type() != "multipart/form-data" or not boundary:
        raise ValueError("The request body is no multipart/form-data.")
    mark = b"\r\n--" + boundary.encode("ascii", "replace")
    pieces = (b"\r\n" + body).split(mark)
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):  # noqa: PLR2004 - nothing between
        raise ValueError("The multipart body is cut off.")
    parts: dict[str, tuple[EmailMessage, bytes]] = {}
    for piece in pieces[1:-1]:
        head, found, content = piece.partition(b"\r\n\r\n")
        about = _headers(head)
        name = about.get_param("name", header="content-disposition")
        if not found or not isinstance(name, str):
            raise ValueError("A part of the multipart body has no name.")
        parts[name] = about, content
    return parts


def _headers(head: bytes) -> EmailMessage:
    message = EmailMessage()
    for line in re.split(rb"\r\n(?![ \t])", head):
        name, _, value = line.decode("utf-8", "replace").partition(":")
        if name.strip().lower() in ("content-disposition", "content-type"):
            message[name.strip()] = " ".join(value.split())
    return message


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{name} is no UTF-8.") from None


def _metadata(text: str | None) -> dict[str, Any]:
    if not text:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ValueError("metadata is no JSON object.")  # noqa: TRY004 - the text is wrong
    return value
