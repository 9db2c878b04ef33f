"""Fetches the pictures that go into a prediction when it starts, and fails it where one is missing.

What is fetched is kept, so that a prediction's outputs are drawn from it later. Only data URIs,
files and outputs of this emulator and hosts that an option names are fetched: a client could reach
the emulator's own network otherwise.
"""

import asyncio
import http.client
import io
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from urllib.parse import SplitResult, urljoin, urlsplit

from anyio import to_thread
from PIL import Image

from flux_pipeline.emulator import files, records
from flux_pipeline.emulator.edits import LONGEST_SIDE, MOST_PIXELS, result_size
from flux_pipeline.emulator.emulator import Emulator
from flux_pipeline.emulator.faults import INPUT_MESSAGES, draw_fault
from flux_pipeline.emulator.files import FetchedPicture
from flux_pipeline.emulator.records import Record

OUTPUT_PATH = re.compile(r"/output/([0-9a-z]+)/([^/]+)")
MAX_BYTES = 100_000_000
_SECONDS = 10.0
"""Until a host must have answered."""
_REDIRECTS = 3
_OK, _FIRST_ERROR = 200, 400

Output = Callable[[str, str], Awaitable[bytes | None]]
"""The bytes of an output of this emulator, by its prediction's id and its name; None: not there."""


class Unreachable(Exception):
    """Raised where an input can't be fetched, with what the provider says then."""


@dataclass
class InputFetches:
    """Fetches each prediction's pictures once, however many calls ask for it meanwhile."""

    emulator: Emulator
    output: Output
    _under_way: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _starting: set[asyncio.Task[None]] = field(default_factory=set)

    def begin(self, record: Record) -> None:
        """Fetch a new prediction's pictures as soon as it starts, though nobody may ask for it."""
        if record.job is None or not record.job.pictures:
            return
        task = asyncio.get_running_loop().create_task(self._at_start(record))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def settle(self, record: Record) -> Record:
        """The record, after its pictures were fetched, if it has started and has any."""
        if record.job is None or not record.job.pictures or record.pictures_at is not None:
            return record
        moment = record.life.at(self.emulator.clock(), self.emulator.options.retention_seconds)
        if moment.started_at is None:
            return record
        task = self._under_way.get(record.id)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._fetch(record))
            self._under_way[record.id] = task
            task.add_done_callback(lambda _: self._under_way.pop(record.id, None))
        await asyncio.shield(task)
        return self.emulator.find(record.id) or record

    async def _at_start(self, record: Record) -> None:
        seconds = record.plan.starts_at - self.emulator.clock()
        if seconds > 0:
            await asyncio.sleep(seconds)
            # Again, because the event loop has a clock of its own, by which it may wake too early.
            await self._at_start(record)
        else:
            await self.settle(self.emulator.find(record.id) or record)

    async def _fetch(self, record: Record) -> None:
        """Fetch all pictures, and store them or the failure."""
        fetched: list[tuple[FetchedPicture, bytes]] = []
        error = None
        try:
            for name, position in record.job.pictures if record.job else ():
                content = await self._content(record, name, position)
                picture = _picture(name, position, content)
                fetched.append((picture, content))
            _check_size(record, [picture for picture, _ in fetched])
        except Unreachable as failure:
            error = str(failure)
        plan = record.plan
        if error is not None and plan.end in ("succeeded", "failed"):
            plan = replace(plan, end="failed", error=error, ends_at=plan.starts_at, late_seconds=0)
        with self.emulator.state.transaction() as connection:
            for place, (picture, content) in enumerate(fetched):
                files.keep(connection, content)
                files.insert_fetched(connection, record.id, place, picture)
            records.note_pictures(connection, record.id, plan, self.emulator.clock())

    async def _content(self, record: Record, name: str, position: int) -> bytes:
        value = record.input[name]
        url = str(value[position] if position >= 0 else value)
        self._draw_fault(record, name, url)
        if files.is_data_uri(url):
            try:
                return files.read_data_uri(url)
            except ValueError:
                raise Unreachable(f"Failed to read input {name}: invalid data URI") from None
        parts = urlsplit(url)
        if (content := self._own_file(record, url)) is not None:
            return content
        if (output := OUTPUT_PATH.fullmatch(parts.path)) is not None:
            content = await self.output(output[1], output[2])
            if content is not None:
                return content
        if f"{parts.scheme}://{parts.netloc}" in self._own_origins(record):
            raise Unreachable(_missing(name, url))
        # A host that hangs must not hold up the end of the server.
        return await to_thread.run_sync(self._download, name, url, abandon_on_cancel=True)

    def _own_origins(self, record: Record) -> set[str]:
        """Where no socket is opened to: the emulator would ask itself, or what a client says."""
        return {record.job.origin if record.job else "", self.emulator.options.output_origin}

    def _own_file(self, record: Record, url: str) -> bytes | None:
        """The content of an uploaded file that was there when the prediction started."""
        with self.emulator.state.reading() as connection:
            file = files.find_by_url(connection, url)
            if file is None or not file.is_there(record.plan.starts_at):
                return None
            return files.content_of(connection, file.sha256)

    def _draw_fault(self, record: Record, name: str, url: str) -> None:
        """Meet the fault of this picture's fetch; a series of them belongs to the picture."""
        faults = self.emulator.faults
        if not faults.input or not faults.concerns(record.typed_input.prompt):
            return
        with self.emulator.state.transaction() as connection:
            file = files.find_by_url(connection, url)
            identity = file.sha256 if file else url
            fault = draw_fault(connection, faults, "input", identity)
            if fault == "expired" and file is not None:
                files.remove(connection, file.id, record.plan.starts_at)
        if fault is not None:
            told = next(text for kind, text in INPUT_MESSAGES.items() if kind == fault)
            raise Unreachable(told.format(name=name, url=shown(url)))

    def _download(self, name: str, url: str) -> bytes:
        """The content at an address of a host that may be asked."""
        for _ in range(_REDIRECTS + 1):
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not self._may_ask(parts):
                raise Unreachable(
                    f"Failed to download input {name}: the emulator asks the hosts of its option"
                    f" input_hosts alone, and not {parts.hostname or parts.scheme}"
                )
            answer = _get(name, parts)
            if isinstance(answer, bytes):
                return answer
            url = urljoin(url, answer)
        raise Unreachable(f"Failed to download input {name}: too many redirects")

    def _may_ask(self, parts: SplitResult) -> bool:
        return (parts.hostname or "") in self.emulator.options.input_hosts


def shown(url: str) -> str:
    """A URL for an error message: a data URI's content would fill pages."""
    return url if len(url) <= 2000 else url[:64] + "..."  # noqa: PLR2004 - as long as URLs get


def _missing(name: str, url: str) -> str:
    return INPUT_MESSAGES["not_found"].format(name=name, url=shown(url))


def _get(name: str, parts: SplitResult) -> bytes | str:
    """The body, or the address that a redirect names."""
    secure = parts.scheme == "https"
    connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection = connect(parts.hostname or "", parts.port, timeout=_SECONDS)
        try:
            connection.request("GET", target, headers={"Accept-Encoding": "identity"})
            reply = connection.getresponse()
            location = reply.getheader("location")
            if _OK < reply.status < _FIRST_ERROR and location:
                return location
            body = reply.read(MAX_BYTES + 1)
        finally:
            connection.close()
    except (OSError, ValueError, http.client.HTTPException) as error:
        told = f"Failed to download input {name}: {type(error).__name__} for url: {parts.geturl()}"
        raise Unreachable(told) from None
    if reply.status != _OK:
        kind = "Client" if reply.status < 500 else "Server"  # noqa: PLR2004 - HTTP's own classes
        raise Unreachable(
            f"Failed to download input {name}: {reply.status} {kind} Error: {reply.reason} for url:"
            f" {parts.geturl()}"
        )
    if len(body) > MAX_BYTES:
        raise Unreachable(f"Failed to download input {name}: more than {MAX_BYTES} bytes")
    return body


def _picture(name: str, position: int, content: bytes) -> FetchedPicture:
    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
            image.verify()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Warning):
        raise Unreachable(f"Failed to read input {name}: cannot identify image file") from None
    sha256 = files.sha256_of(content)
    return FetchedPicture(name, position, sha256, len(content), width, height)


def _check_size(record: Record, pictures: list[FetchedPicture]) -> None:
    if record.job is None:
        return
    width, height = result_size(record.job, pictures)
    if width * height > MOST_PIXELS or max(width, height) > LONGEST_SIDE:
        raise Unreachable(f"CUDA out of memory: {width} x {height} px are too many for the GPU")
