"""A second provider of the same API, which shares no code with the emulator.

It serves files, both create routes, polls and a list that is late. No picture comes twice, whatever
the seed. Inputs are fetched when a prediction starts, and files end early. Some calls are reset or
answered 500, before or after they have taken effect.
"""

import hashlib
import io
import json
import random
import re
import time
import uuid
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread, Timer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from PIL import Image

_PAGE, _ERROR = 50, 500
_PICTURE = re.compile(r"data:|https?://")


@dataclass
class PictureProvider:
    """Its options, and its books; ``fault_rate`` is the share of calls that go wrong."""

    fault_rate: float = 0.15
    list_delay: float = 5.0
    """s until a prediction shows in the list."""
    queue_seconds: tuple[float, float] = (0.1, 1.0)
    """From a create to the start, when its input is fetched."""
    file_seconds: float = 6.0
    """From an upload until it is gone."""
    shows_copies: bool = False
    """Whether it shows copies of the pictures that it was sent, at addresses of its own."""
    origin: str = ""
    predictions: list[dict[str, Any]] = field(default_factory=list)
    """In order; what stands under ``_`` is shown to nobody."""
    files: dict[str, tuple[bytes, float]] = field(default_factory=dict)
    """Id to content and end, unix seconds."""
    outputs: dict[str, bytes] = field(default_factory=dict)
    faults: int = 0
    dice: random.Random = field(default_factory=lambda: random.Random(7))  # noqa: S311
    lock: Lock = field(default_factory=Lock)

    def create(self, model: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Accept a prediction, and start it a little later."""
        made: dict[str, Any] = {
            "id": f"p{uuid.uuid4().hex[:24]}",
            "model": model,
            "version": "hidden",
            "input": dict(given),
            "status": "starting",
            "output": None,
            "error": None,
            "created_at": _iso(time.time()),
            "completed_at": None,
            "_": {"shows": time.time() + self.list_delay, "fetched": ()},
        }
        with self.lock:
            self.predictions.append(made)
        timer = Timer(self.dice.uniform(*self.queue_seconds), self._start, [made])
        timer.daemon = True
        timer.start()
        return made

    def _start(self, made: dict[str, Any]) -> None:
        """Fetch what goes in, and make one picture that nobody has seen before."""
        fetched = []
        for name, value in made["input"].items():
            for url in value if isinstance(value, list) else [value]:
                if not isinstance(url, str) or not _PICTURE.match(url):
                    continue
                content = self._content(url)
                if content is None:
                    made |= {"status": "failed", "completed_at": _iso(time.time())}
                    made["error"] = f"could not retrieve the file of {name}: 404"
                    return
                fetched.append(hashlib.sha256(content).hexdigest())
        made["_"]["fetched"] = tuple(fetched)
        wanted = str(made["input"].get("output_format", "png")).replace("jpg", "jpeg")
        buffer = io.BytesIO()
        noise = random.randbytes(32 * 32 * 3)  # noqa: S311
        Image.frombytes("RGB", (32, 32), noise).resize((512, 512)).save(buffer, wanted)
        self.outputs[made["id"]] = buffer.getvalue()
        made |= {"output": f"{self.origin}/made/{made['id']}", "completed_at": _iso(time.time())}
        made["status"] = "succeeded"

    def _content(self, url: str) -> bytes | None:
        if url.startswith("data:"):
            return b64decode(url.partition(",")[2])
        content, end = self.files.get(url.rpartition("/")[2], (b"", 0.0))
        return content if time.time() < end else None

    def show(self, made: Mapping[str, Any]) -> dict[str, Any]:
        """What everybody sees of a prediction."""
        seen = {name: value for name, value in made.items() if name != "_"}
        if self.shows_copies:
            seen["input"] = {name: self._show(value) for name, value in made["input"].items()}
        return seen

    def _show(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._show(each) for each in value]
        is_picture = isinstance(value, str) and _PICTURE.match(value)
        return f"{self.origin}/copies/{uuid.uuid4().hex}" if is_picture else value

    def upload(self, form: bytes) -> dict[str, Any]:
        """Keep the file of a multipart form."""
        mark = form.split(b"\r\n", 1)[0]
        part = next(part for part in form.split(mark) if b'name="content"' in part)
        content = part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
        name, end = f"f{uuid.uuid4().hex[:16]}", time.time() + self.file_seconds
        self.files[name] = (content, end)
        return {
            "id": name,
            "size": len(content),
            "checksums": {"sha256": hashlib.sha256(content).hexdigest()},
            "expires_at": _iso(end),
            "urls": {"get": f"{self.origin}/v1/files/{name}"},
        }

    def page(self, cursor: int) -> dict[str, Any]:
        """The list from there on, newest first, without what is too new to show."""
        with self.lock:
            shown = [each for each in self.predictions if each["_"]["shows"] <= time.time()]
        upto = len(shown) - cursor
        after = cursor + _PAGE
        link = f"{self.origin}/v1/predictions?cursor={after}" if upto > _PAGE else None
        return {
            "next": link,
            "results": [*map(self.show, shown[max(upto - _PAGE, 0) : upto][::-1])],
        }


class _Handler(BaseHTTPRequestHandler):
    provider: PictureProvider
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        fault = self._draw()
        if fault == "before":
            return self._reset()
        url = urlsplit(self.path)
        name = url.path.rpartition("/")[2]
        if url.path.startswith("/made/"):
            return self._reply(200, self.provider.outputs[name], "application/octet-stream")
        if name == "predictions":
            cursor = int(parse_qs(url.query).get("cursor", ["0"])[0])
            return self._json(_ERROR if fault else 200, self.provider.page(cursor))
        found = next((each for each in self.provider.predictions if each["id"] == name), None)
        return self._json(
            _ERROR if fault else 200 if found else 404, self.provider.show(found) if found else {}
        )

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        fault = self._draw()
        if fault == "before":
            return self._reset()
        if self.path.endswith("/files"):
            done = self.provider.upload(body)
        else:
            asked = json.loads(body)
            model = re.match(r"/v1/models/(.+)/predictions", self.path)
            name = model[1] if model else asked["version"]
            done = self.provider.show(self.provider.create(name, asked["input"]))
        if fault == "reset":
            return self._reset()
        return self._json(_ERROR if fault else 201, done)

    def _draw(self) -> str:
        if self.provider.dice.random() >= self.provider.fault_rate:
            return ""
        self.provider.faults += 1
        return self.provider.dice.choice(["before", "reset", "500"])

    def _reset(self) -> None:
        self.close_connection = True

    def _json(self, status: int, value: Mapping[str, Any]) -> None:
        shown = {"detail": "internal error"} if status == _ERROR else dict(value)
        self._reply(status, json.dumps(shown).encode(), "application/json")

    def _reply(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing on the terminal."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # clients keep their connections open

    def handle_error(self, *_arguments: object) -> None:
        """Say nothing of clients that were killed."""


@contextmanager
def picture_provider(provider: PictureProvider) -> Iterator[PictureProvider]:
    handler = type("Handler", (_Handler,), {"provider": provider})
    with _Server(("127.0.0.1", 0), handler) as server:
        provider.origin = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield provider
        finally:
            server.shutdown()
            thread.join()


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")
