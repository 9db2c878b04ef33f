"""POST of a prediction: the order, the purchase, and the reply in the configured shape."""

import asyncio
import time
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from flux_pipeline.emulator import outputs, replies
from flux_pipeline.emulator.emulator import Emulator
from flux_pipeline.emulator.faulty.calls import broken_reply
from flux_pipeline.emulator.gate import admit
from flux_pipeline.emulator.lifecycle import Moment
from flux_pipeline.emulator.orders import MAX_WAIT_SECONDS, read_order, wait_seconds
from flux_pipeline.emulator.purchase import accept
from flux_pipeline.emulator.records import Record
from flux_pipeline.emulator.refusals import Refusal, channel_refused, error_object, json_response

_LOOK_EVERY = 0.02
"""s between two looks at the clock while a reply is held."""


@dataclass(frozen=True, slots=True)
class Creates:
    """Makes predictions."""

    emulator: Emulator

    async def post(self, request: Request) -> Response:
        """Buy one prediction."""
        admit(self.emulator, request, "creates")
        order = await read_order(request)
        options = self.emulator.options
        if options.reply_shape == "error_object":
            return json_response(error_object(channel_refused()))
        purchase = accept(self.emulator, order)
        if purchase.record is None:
            return broken_reply(self.emulator, purchase.fault or "", order.input_sha)
        if purchase.fault == "data_uri":
            return await self._at_once(purchase.record)
        if options.reply_shape == "prediction":
            moment = await self._held(purchase.record, wait_seconds(request))
            reply = await self._prediction(request, purchase.record, moment)
        else:
            moment = await self._held(purchase.record, MAX_WAIT_SECONDS)
            reply = await self._without_id(request, purchase.record, moment)
        if purchase.fault is None:
            return reply
        return broken_reply(self.emulator, purchase.fault, order.input_sha, reply)

    async def _held(self, record: Record, seconds: float) -> Moment:
        """The prediction at its end, or when ``seconds`` of real time have passed."""
        retention = self.emulator.options.retention_seconds
        moment = record.life.at(self.emulator.clock(), retention)
        patience = time.monotonic() + seconds
        while moment.completed_at is None and time.monotonic() < patience:
            await asyncio.sleep(_LOOK_EVERY)
            current = self.emulator.find(record.id) or record  # it may be cancelled meanwhile
            moment = current.life.at(self.emulator.clock(), retention)
        return moment

    async def _prediction(self, request: Request, record: Record, moment: Moment) -> Response:
        options = self.emulator.options
        output = None
        if moment.outputs is not None and not moment.removed:
            output = await outputs.output_value(self.emulator, request, record, moment.outputs)
        body = replies.prediction(record, moment, output, options.trap_origin)
        return json_response(body, options.create_status)

    async def _at_once(self, record: Record) -> Response:
        """What was recorded once: 201, "processing", and the output already complete."""
        shown = Moment("processing", started_at=record.plan.starts_at)
        images = range(record.typed_input.num_outputs)
        output = [await outputs.data_uri(self.emulator, record, index) for index in images]
        body = replies.prediction(record, shown, output, self.emulator.options.trap_origin)
        return json_response(body, 201)

    async def _without_id(self, request: Request, record: Record, moment: Moment) -> Response:
        options = self.emulator.options
        if moment.outputs is None:
            refusal = Refusal(500, moment.status, moment.error or "The prediction did not succeed.")
            return json_response(error_object(refusal))
        if options.reply_shape == "data_b64":
            items = [
                {"b64_json": await outputs.base64_image(self.emulator, record, index)}
                for index in moment.outputs
            ]
        else:
            items = [
                {"url": outputs.output_url(request, options, record, index)}
                for index in moment.outputs
            ]
        return json_response(replies.without_id(record.created_at, items))
