"""Makes one image through the prediction API, with the standard library: runs in any environment.

Each loop of this folder is called as ``LOOP.py ORIGIN VERSION FOLDER IMAGES``, in an environment of
its own that has its library and nothing of this project.
"""

import json
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

_POLL_SECONDS = 0.25


class Work(NamedTuple):
    """The arguments of a loop."""

    origin: str
    version: str
    folder: Path
    images: int


def read_work() -> Work:
    origin, version, folder, images = sys.argv[1:]
    return Work(origin, version, Path(folder), int(images))


def make_image(origin: str, version: str, folder: str, number: int) -> str:
    """Create a prediction, wait for it, store its picture; return the picture's path."""
    made = _call(f"{origin}/v1/predictions", {"version": version, "input": _inputs(number)})
    while made["status"] in ("starting", "processing"):
        time.sleep(_POLL_SECONDS)
        made = _call(f"{origin}/v1/predictions/{made['id']}")
    with urllib.request.urlopen(made["output"][0]) as reply:
        picture = reply.read()
    path = Path(folder) / f"{number:05d}.webp"
    part = path.with_suffix(".part")
    part.write_bytes(picture)
    part.rename(path)
    return str(path)


def _inputs(number: int) -> dict[str, object]:
    return {"prompt": "a", "seed": number}


def _call(url: str, sent: object = None) -> dict[str, Any]:
    request = urllib.request.Request(
        url,
        data=json.dumps(sent).encode() if sent else None,
        headers={"Authorization": "Bearer benchmark", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as reply:
        found: dict[str, Any] = json.load(reply)
    return found
