"""The importable ASGI app: routes of both prefixes, files, the oracle and the API document."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from flux_pipeline.emulator import refusals
from flux_pipeline.emulator.creates import Creates
from flux_pipeline.emulator.emulator import Emulator
from flux_pipeline.emulator.files import Files
from flux_pipeline.emulator.gate import admit
from flux_pipeline.emulator.openapi import PREFIXES, document
from flux_pipeline.emulator.predictions import Predictions
from flux_pipeline.emulator.refusals import Refusal, json_response


def create_app(emulator: Emulator) -> Starlette:
    """The ASGI app of one emulated API; it starts nothing and may be served any number of times."""

    async def refuse(_: Request, error: Exception) -> Response:
        if not isinstance(error, Refusal):
            raise error
        return error.response(emulator.options.error_shape)

    async def ledger(request: Request) -> Response:
        wanted = request.query_params.get("predictions", "0") not in ("", "0")
        text = emulator.ledger(predictions=wanted).model_dump_json()
        return Response(text, media_type="application/json")

    async def elsewhere(scope: Scope, receive: Receive, send: Send) -> None:
        admit(emulator, Request(scope), "open")
        await refusals.not_found().response(emulator.options.error_shape)(scope, receive, send)

    async def described(_: Request) -> Response:
        return json_response(document())

    creates, predictions, files = Creates(emulator), Predictions(emulator), Files(emulator)

    async def create_or_list(request: Request) -> Response:
        handle = creates.post if request.method == "POST" else predictions.list
        return await handle(request)

    routes = [
        Route("/openapi.json", described),
        Route("/_emulator/ledger", ledger),
        Route("/output/{id}/{name}", files.get),
    ]
    for prefix in PREFIXES:
        collection = f"{prefix}/predictions"
        routes += [
            Route(collection, create_or_list, methods=["POST", "GET"]),
            Route(collection + "/{id}", predictions.get),
            Route(collection + "/{id}/cancel", predictions.cancel, methods=["POST"]),
        ]
    app = Starlette(routes=routes, exception_handlers={Refusal: refuse})
    app.router.default = elsewhere
    app.router.redirect_slashes = False
    return app
