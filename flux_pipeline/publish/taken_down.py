"""Pictures that were taken down by hand: who did it, when and why.

Each has an object of its own in the store, ``taken-down/<set>/<request>-<output>.json``, which
``trace`` shows. The picture stays in store, ledger and lineage. It is not published again until
somebody allows it, which is noted in the same object.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from flux_pipeline.errors import StoreError
from flux_pipeline.iteration import map_ahead
from flux_pipeline.store.base import Store

PREFIX = "taken-down/"
TAKEN_DOWN, ALLOWED = "taken down", "allowed again"
"""What may happen to a published picture."""
_READERS = 8
_JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What somebody did with a published picture."""

    action: str
    """``TAKEN_DOWN`` or ``ALLOWED``."""
    at: str
    """ISO 8601, UTC."""
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenDown:
    """One picture that was taken down at some time."""

    prompt_set: str
    name: str
    """That it had in the index."""
    prompt_name: str
    request_sha256: str
    output_index: int
    source_uri: str
    """Where the picture still lies."""
    target: str
    """Where it was published."""
    paths: tuple[str, ...]
    """Of its files there."""
    events: tuple[Event, ...]
    """The oldest first."""

    @property
    def is_down(self) -> bool:
        """Whether it must not be published now."""
        return bool(self.events) and self.events[-1].action == TAKEN_DOWN

    @property
    def source(self) -> tuple[str, int]:
        """Request and output."""
        return self.request_sha256, self.output_index

    @property
    def key(self) -> str:
        """Of its object in the store."""
        return taken_down_key(self.prompt_set, *self.source)


def taken_down_key(prompt_set: str, request_sha256: str, output_index: int) -> str:
    """``taken-down/<set>/<request>-<output>.json``."""
    return f"{PREFIX}{prompt_set}/{request_sha256}-{output_index}.json"


def find_taken_down(store: Store, prompt_set: str) -> Iterator[TakenDown]:
    """Every picture of a set that was ever taken down. Raises StoreError."""
    keys = store.list(f"{PREFIX}{prompt_set}/")
    for key, body in map_ahead(lambda key: (key, store.get(key)), keys, threads=_READERS):
        yield _parse(f"{store.uri}/{key}", body)


def read_taken_down(
    store: Store, prompt_set: str, request_sha256: str, output_index: int
) -> TakenDown | None:
    """One picture's; None where it was never taken down. Raises StoreError."""
    key = taken_down_key(prompt_set, request_sha256, output_index)
    if store.head(key) is None:
        return None
    return _parse(f"{store.uri}/{key}", store.get(key))


def note(store: Store, taken: TakenDown, event: Event) -> TakenDown:
    """Write down that this happened to a picture, after all that happened before."""
    before = read_taken_down(store, taken.prompt_set, *taken.source)
    events = (*(before.events if before else ()), event)
    noted = replace(taken, events=events)
    store.put(noted.key, _dump(noted), content_type=_JSON)
    return noted


def _dump(taken: TakenDown) -> bytes:
    return json.dumps(asdict(taken), ensure_ascii=False, indent=1).encode() + b"\n"


def _parse(place: str, body: bytes) -> TakenDown:
    try:
        values: dict[str, Any] = json.loads(body)
        events = tuple(Event(**event) for event in values.pop("events"))
        return TakenDown(**{**values, "paths": tuple(values["paths"]), "events": events})
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(
            f"{place}: can't be read ({type(error).__name__}), so it isn't known whether a picture"
            " may be published: correct it, or move it away"
        ) from None
