"""A small client of the API, so that a test reads as what it asks."""

import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

VERSION = "2a6b576af31790b470f0a8442e1e9791213fa13799cbb65a9fc1436e96389574"
KEY = "r8_test"
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Made once: reading the machine's certificates takes longer than most tests here."""
PATIENCE = 60
"""s; nothing that is waited for takes as long, however busy the machine."""


class ManualClock:
    """A clock that stands still until a test moves it; s since the epoch."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Api:
    """The calls of one prefix, with a key; files are fetched without one."""

    def __init__(self, origin: str, *, prefix: str = "/v1", key: str = KEY) -> None:
        self.origin = origin
        self.prefix = prefix
        self.path = f"{prefix}/predictions"
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.http = httpx.Client(base_url=origin, headers=headers, timeout=PATIENCE, verify=_NO_TLS)
        self.files = httpx.Client(timeout=PATIENCE, verify=_NO_TLS)

    def close(self) -> None:
        self.http.close()
        self.files.close()

    def post(
        self, prompt: object = "a castle", /, headers: Mapping[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        body = {"version": VERSION, "input": {"prompt": prompt, **more}}
        return self.http.post(self.path, json=body, headers=headers)

    def create(self, prompt: str = "a castle", /, **more: Any) -> dict[str, Any]:
        return accepted(self.post(prompt, **more))

    def order(self, named: str, sent: Mapping[str, Any], /) -> httpx.Response:
        """A create of what ``named`` (the body's version) says, with this input."""
        return self.http.post(self.path, json={"version": named, "input": dict(sent)})

    def done(self, named: str, sent: Mapping[str, Any], /) -> dict[str, Any]:
        """A prediction of that, and what became of it, where the server's latency is 0."""
        return self.get(accepted(self.order(named, sent))["id"])

    def upload(self, content: bytes, /, **form: str) -> dict[str, Any]:
        """Upload a PNG file."""
        part = {"content": ("source.png", content, "image/png")}
        return accepted(self.http.post(f"{self.prefix}/files", files=part, data=form))

    def fetch(self, prediction_id: str) -> httpx.Response:
        return self.http.get(f"{self.path}/{prediction_id}")

    def get(self, prediction_id: str) -> dict[str, Any]:
        return accepted(self.fetch(prediction_id))

    def finished(self, prompt: str = "a castle", /, **more: Any) -> dict[str, Any]:
        """A prediction and what became of it, where the server's latency is 0."""
        return self.get(self.create(prompt, **more)["id"])

    def cancel(self, prediction_id: str) -> httpx.Response:
        return self.http.post(f"{self.path}/{prediction_id}/cancel")

    def list(self, **query: str) -> dict[str, Any]:
        return accepted(self.http.get(self.path, params=query))

    def download(self, url: str) -> httpx.Response:
        return self.files.get(url, headers={"Accept-Encoding": "identity"})


def accepted(response: httpx.Response) -> dict[str, Any]:
    """The JSON object of a reply that says yes."""
    assert response.is_success, response.text
    body: dict[str, Any] = response.json()
    return body


@contextmanager
def impatient(client: httpx.Client, has_come: Callable[[], object]) -> Iterator[None]:
    """Calls that get no reply end soon, but never before the server is seen to have the request.

    A server that gets the time to read it only after the client has gone would do something else.
    """

    def wait(event: str, _: Any) -> None:
        end = time.monotonic() + PATIENCE
        while event == "http11.receive_response_headers.started" and not has_come():
            assert time.monotonic() < end, "the request never came"
            time.sleep(0.005)

    def watch(request: httpx.Request) -> None:
        request.extensions["trace"] = wait

    before = client.timeout
    client.timeout = httpx.Timeout(PATIENCE, read=0.2)
    client.event_hooks["request"].append(watch)
    try:
        yield
    finally:
        client.event_hooks["request"].remove(watch)
        client.timeout = before
