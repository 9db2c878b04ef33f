"""A server that answers reloads as Dagster's web interface does, and the sensor that asks it."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import dagster as dg

NOWHERE = "http://127.0.0.1:9"
RELOADED = "reloaded"
"""The answer of a web interface that has loaded the code location again."""
UNCHANGED = "unchanged"
"""The answer of one that has not, and says that it has."""


@contextmanager
def web_interface(
    *answers: dict[str, Any] | str, place: Path | str = ""
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Serve these answers to the reload mutation in turn; gives the URL and the mutations.

    It shows one code location, of the prompt sets in the folder ``place``; of none where empty.
    """
    got: list[dict[str, Any]] = []
    left = list(answers)
    loads = 0

    def answer_to(asked: dict[str, Any]) -> str:
        nonlocal loads
        if not asked["query"].startswith("mutation"):
            entry = {"name": "studio", "locationOrLoadError": location(place, f"load {loads}")}
            return json.dumps({"data": {"workspaceOrError": {"locationEntries": [entry]}}})
        got.append(asked)
        answer = left.pop(0)
        if answer in (RELOADED, UNCHANGED):
            loads += answer == RELOADED
            answer = {"__typename": "WorkspaceLocationEntry", "locationOrLoadError": {}}
        elif isinstance(answer, str):
            return answer
        return json.dumps({"data": {"reloadRepositoryLocation": answer}})

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            body = answer_to(asked).encode()
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


def location(place: Path | str, load: str) -> dict[str, Any]:
    """A code location as GraphQL shows it."""
    entries = [
        {"label": "flux/prompt_sets", "path": str(place)},
        {"label": "flux/load", "text": load},
    ]
    sensors = [{"name": "configs_changed", "metadataEntries": entries if place else []}]
    return {"__typename": "RepositoryLocation", "repositories": [{"sensors": sensors}]}


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
