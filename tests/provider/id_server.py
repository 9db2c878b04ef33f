"""A small provider on aiohttp, whose predictions have ids of a kind that a test chooses."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.provider.samples import IMAGE, prediction_fields


@dataclass(slots=True)
class IdServer:
    """Every create makes the one prediction, which succeeds at once."""

    prediction_id: object
    origin: str = ""
    inputs: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    """As they came over the wire."""

    def shown(self) -> dict[str, Any]:
        return prediction_fields(
            id=self.prediction_id,
            status="succeeded",
            output=[f"{self.origin}/files/out-0.webp"],
            input=self.inputs[-1],
            created_at=None,
        )

    async def create(self, request: web.Request) -> web.Response:
        self.inputs.append((await request.json())["input"])
        return web.json_response(self.shown(), status=201)

    async def find(self, request: web.Request) -> web.Response:
        self.paths.append(request.raw_path)
        if request.match_info["id"] != str(self.prediction_id):
            return web.json_response({"detail": "not found"}, status=404)
        return web.json_response(self.shown())

    async def list(self, _: web.Request) -> web.Response:
        return web.json_response({"next": None, "results": [self.shown()]})

    async def file(self, _: web.Request) -> web.Response:
        return web.Response(body=IMAGE, content_type="image/webp")


@asynccontextmanager
async def serve_ids(prediction_id: object) -> AsyncIterator[IdServer]:
    """Serve one on a free port of this machine."""
    server = IdServer(prediction_id)
    app = web.Application()
    app.router.add_post("/v1/predictions", server.create)
    app.router.add_get("/v1/predictions", server.list)
    app.router.add_get("/v1/predictions/{id:[^/]+}", server.find)
    app.router.add_post("/v1/predictions/{id:[^/]+}/cancel", server.find)
    app.router.add_get("/files/{name}", server.file)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield server
    finally:
        await runner.cleanup()
