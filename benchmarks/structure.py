"""Counts what an image costs besides time: calls, tasks, statements, commits, bytes, imports.

    python -m benchmarks.structure ORIGIN STORE FOLDER COUNT

Prints a JSON object; ``tests/produce/test_costs.py`` compares it with what is expected. Counts are
the same on every machine, so speed can't be lost unseen where nobody measures it.
"""

import asyncio
import json
import sqlite3
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from botocore.httpsession import URLLib3Session

from benchmarks.pipeline import Pipeline
from flux_pipeline.provider.transport import AiohttpTransport
from flux_pipeline.store.s3_connections import OpenConnections


def count_calls(counts: Counter[str]) -> None:
    """Count HTTP calls of both kinds, tasks, SQL statements and commits from now on."""
    provider: Any = AiohttpTransport
    s3: Any = URLLib3Session
    connections: Any = OpenConnections
    request, send = provider.send, s3.send  # what every call goes through
    send_directly = connections.send  # or this one

    async def counted_request(self: Any, method: str, url: Any, **options: Any) -> Any:
        counts[f"{method} to the provider"] += 1
        counts["bytes sent to the provider"] += len(options["content"] or b"")
        return await request(self, method, url, **options)

    def count_send(prepared: Any) -> None:
        counts[f"{prepared.method} to the store"] += 1
        counts["bytes sent to the store"] += int(prepared.headers.get("content-length", 0))

    def counted_send(self: Any, prepared: Any) -> Any:
        count_send(prepared)
        return send(self, prepared)

    def counted_directly(self: Any, prepared: Any) -> Any:
        reply = send_directly(self, prepared)
        if reply is not None:
            count_send(prepared)
            counts["PUT to the store, over an open connection"] += 1
        return reply

    provider.send, s3.send = counted_request, counted_send
    connections.send = counted_directly

    loops: Any = asyncio.BaseEventLoop
    create_task = loops.create_task

    def counted_task(self: Any, work: Any, **options: Any) -> Any:
        counts["tasks of the event loop"] += 1
        return create_task(self, work, **options)

    loops.create_task = counted_task

    def note(statement: str) -> None:
        if not statement.startswith("PRAGMA"):
            counts["commits" if statement.startswith("COMMIT") else "statements"] += 1

    # By the driver, which not every statement reaches through SQLAlchemy.
    def listen(connection: sqlite3.Connection, _record: object) -> None:
        connection.set_trace_callback(note)

    sa.event.listen(sa.Engine, "connect", listen)


def main() -> None:
    origin, store, folder, images = sys.argv[1:]
    counts: Counter[str] = Counter()
    count_calls(counts)  # first, because the store keeps the function by which it sends
    pipeline = Pipeline(origin, store, Path(folder))
    counts.clear()
    pipeline.run("counted", int(images))
    made = dict(counts)
    counts.clear()
    pipeline.run("counted", int(images))
    print(json.dumps({"made": made, "unchanged": dict(counts), "modules": sorted(sys.modules)}))


if __name__ == "__main__":
    main()
