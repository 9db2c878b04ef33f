"""The ASGI app: creates, predictions and their list, output files, usage and the API document."""

import asyncio
import base64
import binascii
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from flux_pipeline.emulator import records, replies
from flux_pipeline.emulator.catalog_routes import Models, Uploads
from flux_pipeline.emulator.emulator import Emulator
from flux_pipeline.emulator.fault_replies import Download, broken_reply, spoiled_file
from flux_pipeline.emulator.faults import Phase
from flux_pipeline.emulator.input_fetches import InputFetches
from flux_pipeline.emulator.lifecycle import Moment
from flux_pipeline.emulator.openapi import PREFIXES, document
from flux_pipeline.emulator.pictures import CONTENT_TYPES
from flux_pipeline.emulator.records import Record
from flux_pipeline.emulator.replies import Refusal, channel_refused, error_object, json_response
from flux_pipeline.emulator.requests import (
    MAX_WAIT_SECONDS,
    accept,
    admit,
    read_order,
    wait_seconds,
)

_LOOK_EVERY = 0.02
"""Time between two looks at the clock while a reply is held, s."""
_NEWEST = 2**62


def create_app(emulator: Emulator) -> Starlette:
    """Build the ASGI app of one emulated API; it may be served any number of times."""

    async def refuse(_: Request, error: Exception) -> Response:
        if not isinstance(error, Refusal):
            raise error
        return error.response(emulator.options.error_shape)

    async def usage(request: Request) -> Response:
        wanted = request.query_params.get("predictions", "0") not in ("", "0")
        text = emulator.usage(predictions=wanted).model_dump_json()
        return Response(text, media_type="application/json")

    async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
        admit(emulator, Request(scope), "open")
        await replies.not_found().response(emulator.options.error_shape)(scope, receive, send)

    async def openapi(_: Request) -> Response:
        return json_response(document())

    files = Files(emulator)
    fetches = InputFetches(emulator, files.read)
    files.fetches.append(fetches)
    creates, predictions = Creates(emulator, fetches), Predictions(emulator, fetches)
    models, uploads = Models(emulator), Uploads(emulator)

    async def create_or_list(request: Request) -> Response:
        handle = creates.post if request.method == "POST" else predictions.list
        return await handle(request)

    routes = [
        Route("/openapi.json", openapi),
        Route("/_emulator/ledger", usage),
        Route("/output/{id}/{name}", files.get),
    ]
    for prefix in PREFIXES:
        collection = f"{prefix}/predictions"
        routes += [
            Route(collection, create_or_list, methods=["POST", "GET"]),
            Route(collection + "/{id}", predictions.get),
            Route(collection + "/{id}/cancel", predictions.cancel, methods=["POST"]),
        ]
    for prefix in PREFIXES:
        model = f"{prefix}/models/{{owner}}/{{name}}"
        routes += [
            Route(f"{model}/predictions", creates.post, methods=["POST"]),
            Route(model, models.get),
            Route(f"{model}/versions", models.versions),
            Route(f"{model}/versions/{{id}}", models.version),
            Route(f"{prefix}/files", uploads.all, methods=["POST", "GET"]),
            Route(f"{prefix}/files/{{id}}", uploads.one, methods=["GET", "DELETE"]),
        ]
    app = Starlette(routes=routes, exception_handlers={Refusal: refuse})
    app.router.default = not_found
    app.router.redirect_slashes = False
    return app


@dataclass(frozen=True, slots=True)
class Creates:
    """Handles creates: the POST of a prediction, in each of the reply shapes."""

    emulator: Emulator
    fetches: InputFetches

    async def post(self, request: Request) -> Response:
        """Create one prediction, and charge for it."""
        admit(self.emulator, request, "creates")
        order = await read_order(self.emulator, request)
        options = self.emulator.options
        if options.reply_shape == "error_object":
            return json_response(error_object(channel_refused()))
        purchase = accept(self.emulator, order)
        if purchase.record is None:
            return broken_reply(self.emulator, purchase.fault or "", order.input_sha)
        self.fetches.begin(purchase.record)
        if purchase.fault == "data_uri":
            return await self._complete_at_once(purchase.record)
        if options.reply_shape == "prediction":
            moment = await self._wait(purchase.record, wait_seconds(request))
            reply = await self._prediction(request, purchase.record, moment)
        else:
            moment = await self._wait(purchase.record, MAX_WAIT_SECONDS)
            reply = await self._without_id(request, purchase.record, moment)
        if purchase.fault is None:
            return reply
        return broken_reply(self.emulator, purchase.fault, order.input_sha, reply)

    async def _wait(self, record: Record, seconds: float) -> Moment:
        """Wait for the prediction's end, or until ``seconds`` of real time have passed."""
        retention = self.emulator.options.retention_seconds
        current = await self.fetches.settle(record) if seconds else record
        moment = current.life.at(self.emulator.clock(), retention)
        patience = time.monotonic() + seconds
        while moment.completed_at is None and time.monotonic() < patience:
            await asyncio.sleep(_LOOK_EVERY)
            current = self.emulator.find(record.id) or record  # it may be cancelled meanwhile
            current = await self.fetches.settle(current)
            moment = current.life.at(self.emulator.clock(), retention)
        return moment

    async def _prediction(self, request: Request, record: Record, moment: Moment) -> Response:
        options = self.emulator.options
        output = None
        if moment.outputs is not None and not moment.removed:
            output = await replies.output_value(self.emulator, request, record, moment.outputs)
        body = replies.prediction(record, moment, output, options.trap_origin)
        return json_response(body, options.create_status)

    async def _complete_at_once(self, record: Record) -> Response:
        """Reply as the real API did once: 201 and "processing", with the whole output."""
        moment = Moment("processing", started_at=record.plan.starts_at)
        images = range(record.typed_input.num_outputs)
        output = [await replies.data_uri(self.emulator, record, index) for index in images]
        body = replies.prediction(record, moment, output, self.emulator.options.trap_origin)
        return json_response(body, 201)

    async def _without_id(self, request: Request, record: Record, moment: Moment) -> Response:
        options = self.emulator.options
        if moment.outputs is None:
            refusal = Refusal(500, moment.status, moment.error or "The prediction did not succeed.")
            return json_response(error_object(refusal))
        if options.reply_shape == "data_b64":
            items = [
                {"b64_json": await replies.base64_image(self.emulator, record, index)}
                for index in moment.outputs
            ]
        else:
            origin = replies.output_origin(request, self.emulator, record)
            items = [
                {"url": replies.output_url(origin, options, record, index)}
                for index in moment.outputs
            ]
        return json_response(replies.without_id(record.created_at, items))


@dataclass(frozen=True, slots=True)
class Predictions:
    """Handles the calls that cost nothing: get, list and cancel."""

    emulator: Emulator
    fetches: InputFetches

    async def get(self, request: Request) -> Response:
        """One prediction as it is now."""
        admit(self.emulator, request, "calls")
        record = self._record(request)
        self._refuse_for_a_while(record)
        return self._faulty("poll", record, await self._shown(request, record))

    async def cancel(self, request: Request) -> Response:
        """Stop a prediction that runs; one that has ended stays as it is."""
        admit(self.emulator, request, "calls")
        record = self._record(request)
        self._refuse_for_a_while(record)
        now, options = self.emulator.clock(), self.emulator.options
        moment = record.life.at(now, options.retention_seconds)
        if moment.completed_at is None:
            with self.emulator.state.transaction() as connection:
                records.cancel(connection, record.id, now)
        elif options.cancel_finished == "refused":
            raise replies.not_cancelable()
        reply = await self._shown(request, self._record(request))
        return self._faulty("cancel", record, reply)

    async def list(self, request: Request) -> Response:
        """A page of predictions, newest first."""
        admit(self.emulator, request, "calls")
        options = self.emulator.options
        if not options.list_enabled:
            raise replies.not_found()
        after, before, older_than = _window(request)
        visible = math.nextafter(self.emulator.clock() - options.list_delay_seconds, math.inf)
        with self.emulator.state.reading() as connection:
            found = records.page(
                connection,
                after=after,
                before=min(before, visible),
                older_than=older_than,
                limit=options.page_size + 1,
            )
        shown = found[: options.page_size]
        results = [await self._object(request, record, count=False) for record in shown]
        following = self._next(request, shown) if len(found) > len(shown) else None
        body = {"next": following, "previous": None, "results": results}
        return self._faulty("list", None, json_response(body))

    def _record(self, request: Request) -> Record:
        record = self.emulator.find(request.path_params["id"])
        if record is None:
            raise replies.not_found()
        return record

    def _refuse_for_a_while(self, record: Record) -> None:
        prompt = record.typed_input.prompt
        if self.emulator.lasting_fault("poll", prompt, since=record.created_at):
            raise replies.not_found()

    async def _shown(self, request: Request, record: Record) -> Response:
        return json_response(await self._object(request, record, count=True))

    async def _object(self, request: Request, record: Record, *, count: bool) -> dict[str, object]:
        options = self.emulator.options
        record = await self.fetches.settle(record)
        moment = record.life.at(self.emulator.clock(), options.retention_seconds)
        output = None
        if moment.outputs is not None and not moment.removed:
            output = await replies.output_value(self.emulator, request, record, moment.outputs)
        elif count and moment.completed_at is not None and record.plan.null_reads:
            with self.emulator.state.transaction() as connection:
                records.count_read(connection, record.id)
        return replies.prediction(record, moment, output, options.trap_origin)

    def _faulty(self, phase: Phase, record: Record | None, reply: Response) -> Response:
        fault = self.emulator.fault_of_call(phase, record)
        if fault is None:
            return reply
        identity = phase if record is None else record.identity
        return broken_reply(self.emulator, fault, identity, reply)

    def _next(self, request: Request, shown: Sequence[Record]) -> str:
        """The next page's address: on the trap, like every URL of a reply."""
        kept = {
            name: value
            for name, value in request.query_params.items()
            if name in ("created_after", "created_before")
        }
        query = urlencode({**kept, "cursor": _cursor(shown[-1].seq)})
        return f"{self.emulator.options.trap_origin}{request.url.path}?{query}"


def _window(request: Request) -> tuple[float, float, int]:
    """``created_after``, ``created_before`` in s since the epoch, and the cursor's position."""
    query = request.query_params
    after = _time(query.get("created_after"), -math.inf)
    before = _time(query.get("created_before"), math.inf)
    cursor = query.get("cursor")
    if cursor is None:
        return after, before, _NEWEST
    try:
        position = int(base64.urlsafe_b64decode(cursor.encode()).decode())
    except (ValueError, binascii.Error):
        raise replies.malformed("The cursor is not one of this list.") from None
    return after, before, min(max(position, 0), _NEWEST)


def _time(text: str | None, missing: float) -> float:
    if text is None:
        return missing
    try:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise replies.malformed("created_after and created_before are RFC 3339 times.") from None


def _cursor(seq: int) -> str:
    return base64.urlsafe_b64encode(str(seq).encode()).decode()


@dataclass(frozen=True, slots=True)
class Files:
    """Serves output files, while they exist."""

    emulator: Emulator
    fetches: list[InputFetches] = field(default_factory=list)
    """One, which in turn may read an output as an input."""

    async def get(self, request: Request) -> Response:
        """One image; no key is needed, and none should come."""
        admit(self.emulator, request, "open")
        found = await self._find(request.path_params["id"], request.path_params["name"])
        if found is None:
            raise replies.not_found()
        record, index = found
        self._refuse_for_a_while(record)
        body = await replies.image_bytes(self.emulator, record, index)
        fault = self.emulator.fault_of_call("download", record, part=f"/{index}")
        if fault is not None:
            return self._spoiled(fault, Download(self.emulator, record, request.url.path, body))
        return Response(body, media_type=CONTENT_TYPES[record.typed_input.output_format])

    async def read(self, prediction_id: str, name: str) -> bytes | None:
        """The bytes of one image, or None where there is none."""
        found = await self._find(prediction_id, name)
        return await replies.image_bytes(self.emulator, *found) if found else None

    async def _find(self, prediction_id: str, name: str) -> tuple[Record, int] | None:
        """The prediction and the batch number of a file that is there."""
        record = self.emulator.find(prediction_id)
        if record is None:
            return None
        for fetches in self.fetches:
            record = await fetches.settle(record)
        moment = record.life.at(self.emulator.clock(), self.emulator.options.retention_seconds)
        names = {replies.file_name(record, index): index for index in moment.outputs or ()}
        index = names.get(name)
        return None if index is None or moment.removed else (record, index)

    def _refuse_for_a_while(self, record: Record) -> None:
        since, prompt = record.plan.ends_at, record.typed_input.prompt
        fault = self.emulator.lasting_fault("download", prompt, since=since)
        if fault is not None:
            raise replies.forbidden() if fault == "downloads_403" else replies.not_found()

    def _spoiled(self, fault: str, download: Download) -> Response:
        if fault == "expired":
            with self.emulator.state.transaction() as connection:
                records.expire(connection, download.record.id)
        return spoiled_file(fault, download)
