"""A webhook on this machine: a real socket that keeps what it is sent and answers as told."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class Receiver:
    """``answers`` are taken one a message, the last one again and again."""

    origin: str = ""
    received: list[Received] = field(default_factory=list)
    answers: list[tuple[int, str]] = field(default_factory=lambda: [(200, "ok")])

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [each.body for each in self.received]


@contextmanager
def receiver() -> Iterator[Receiver]:
    kept = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"]))
            kept.received.append(Received(self.path, dict(self.headers), json.loads(raw)))
            status, text = kept.answers[0] if len(kept.answers) == 1 else kept.answers.pop(0)
            self.send_response(status)
            self.send_header("content-length", str(len(text.encode())))
            if status in (301, 307):
                self.send_header("location", f"{kept.origin}/elsewhere")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_arguments: object) -> None:
            """Say nothing on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        kept.origin = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield kept
        finally:
            server.shutdown()
            thread.join()
