"""A server that answers reloads as Dagster's web interface does, and the sensor that asks it."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import dagster as dg

NOWHERE = "http://127.0.0.1:9"
RELOADED = {"__typename": "WorkspaceLocationEntry", "locationOrLoadError": {}}


@contextmanager
def web_interface(*answers: dict[str, Any] | str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Serve these answers to the reload mutation in turn; gives the URL and the requests."""
    got: list[dict[str, Any]] = []
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            answer = left.pop(0)
            page = {"data": {"reloadRepositoryLocation": answer}}
            body = answer.encode() if isinstance(answer, str) else json.dumps(page).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class ConfigsSensor:
    """The sensor ``configs_changed`` of these definitions, tick after tick."""

    def __init__(self, definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
        self._definitions, self._instance = definitions, instance
        repository = definitions.get_repository_def()
        self._sensor = repository.get_sensor_def("configs_changed")
        self._cursor: str | None = None

    def tick(self) -> tuple[str, Sequence[dg.RunRequest]]:
        context = dg.build_sensor_context(
            instance=self._instance, cursor=self._cursor, definitions=self._definitions
        )
        result = self._sensor.evaluate_tick(context)
        self._cursor = result.cursor
        return result.skip_message or "", result.run_requests or []

    def said(self) -> str:
        return self.tick()[0]
