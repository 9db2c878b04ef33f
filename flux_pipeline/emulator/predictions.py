"""Everything about predictions that buys nothing: get, list and cancel."""

import base64
import binascii
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from flux_pipeline.emulator import outputs, records, refusals, replies
from flux_pipeline.emulator.emulator import Emulator
from flux_pipeline.emulator.faults import Phase
from flux_pipeline.emulator.faulty.calls import broken_reply
from flux_pipeline.emulator.gate import admit
from flux_pipeline.emulator.records import Record
from flux_pipeline.emulator.refusals import json_response

_NEWEST = 2**62


@dataclass(frozen=True, slots=True)
class Predictions:
    """Shows, lists and cancels predictions."""

    emulator: Emulator

    async def get(self, request: Request) -> Response:
        """One prediction as it is now."""
        admit(self.emulator, request, "calls")
        record = self._record(request)
        return self._faulty("poll", record, await self._shown(request, record))

    async def cancel(self, request: Request) -> Response:
        """Stop a prediction that runs; one that has ended stays as it is."""
        admit(self.emulator, request, "calls")
        record = self._record(request)
        now, options = self.emulator.clock(), self.emulator.options
        moment = record.life.at(now, options.retention_seconds)
        if moment.completed_at is None:
            with self.emulator.state.transaction() as connection:
                records.cancel(connection, record.id, now)
        elif options.cancel_finished == "refused":
            raise refusals.not_cancelable()
        reply = await self._shown(request, self._record(request))
        return self._faulty("cancel", record, reply)

    async def list(self, request: Request) -> Response:
        """A page of predictions, newest first."""
        admit(self.emulator, request, "calls")
        options = self.emulator.options
        if not options.list_enabled:
            raise refusals.not_found()
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
            raise refusals.not_found()
        return record

    async def _shown(self, request: Request, record: Record) -> Response:
        return json_response(await self._object(request, record, count=True))

    async def _object(self, request: Request, record: Record, *, count: bool) -> dict[str, object]:
        options = self.emulator.options
        moment = record.life.at(self.emulator.clock(), options.retention_seconds)
        output = None
        if moment.outputs is not None and not moment.removed:
            output = await outputs.output_value(self.emulator, request, record, moment.outputs)
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
        raise refusals.malformed("The cursor is not one of this list.") from None
    return after, before, min(max(position, 0), _NEWEST)


def _time(text: str | None, missing: float) -> float:
    if text is None:
        return missing
    try:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise refusals.malformed("created_after and created_before are RFC 3339 times.") from None


def _cursor(seq: int) -> str:
    return base64.urlsafe_b64encode(str(seq).encode()).decode()
