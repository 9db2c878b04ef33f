"""Finds a project's code location in Dagster's web interface, and has it loaded again.

Two projects on one machine may both be called ``flux_pipeline``, and the web interface at an
address may be either's. So the sensor ``configs_changed`` carries, as its metadata, the folder of
its prompt sets and an id of the load; a code location is a project's only if it shows that folder,
and a reload counts only if the id is another one afterwards.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit
from uuid import uuid4

import dagster as dg

from flux_pipeline.endpoint import is_loopback
from flux_pipeline.text import first_of, safe_text

SENSOR = "configs_changed"
_PLACE = "flux/prompt_sets"
_LOAD = "flux/load"
_TIMEOUT = 120.0  # s; loading thousands of files takes time
_MOST_NAMED = 3

_FIND = """query {
  workspaceOrError {
    ... on Workspace {
      locationEntries {
        name
        locationOrLoadError {
          ... on RepositoryLocation {
            repositories {
              sensors {
                name
                metadataEntries {
                  label
                  ... on PathMetadataEntry { path }
                  ... on TextMetadataEntry { text }
                }
              }
            }
          }
        }
      }
    }
    ... on PythonError { message }
  }
}"""
_RELOAD = """mutation($name: String!) {
  reloadRepositoryLocation(repositoryLocationName: $name) {
    __typename
    ... on WorkspaceLocationEntry {
      locationOrLoadError { __typename ... on PythonError { message } }
    }
    ... on ReloadNotSupported { message }
    ... on RepositoryLocationNotFound { message }
    ... on PythonError { message }
  }
}"""


class ReloadFailedError(Exception):
    """The code location was not loaded again.

    ``elsewhere`` is whether another web interface has to be asked than the one at the address.
    """

    def __init__(self, reason: str, *, elsewhere: bool = False) -> None:
        super().__init__(reason)
        self.elsewhere = elsewhere


@dataclass(frozen=True, slots=True)
class ShownLocation:
    """A code location with the sensor, as the web interface shows it."""

    name: str
    place: str
    """The folder of its prompt sets."""
    load: str
    """The id of its last load."""


def describe_load(place: Path) -> Mapping[str, dg.MetadataValue[Any]]:
    """Metadata for the sensor, by which this load of this folder's prompt sets is known."""
    return {
        _PLACE: dg.MetadataValue.path(str(place.resolve())),
        _LOAD: dg.MetadataValue.text(uuid4().hex),
    }


def reload_location(ui_url: str, place: Path) -> str:
    """Have the code location of the prompt sets in this folder loaded again; return its name.

    Nothing is asked of a code location that is another project's.

    Raises:
        ReloadFailedError: It says why, with what to do where that is another address.
    """
    before = _find_own(ui_url, str(place.resolve()))
    answer = _ask(ui_url, _RELOAD, name=before.name)["reloadRepositoryLocation"]
    _raise_problem(answer)
    _raise_problem(answer.get("locationOrLoadError") or {})
    # Asked anew: the answer to the mutation still shows the sensors of before.
    if _find_own(ui_url, before.place).load == before.load:
        raise ReloadFailedError(
            "it answered, but the code location is the one that was loaded before: where a server"
            " of its own serves it, restart that"
        )
    return before.name


def _find_own(ui_url: str, place: str) -> ShownLocation:
    workspace = _ask(ui_url, _FIND)["workspaceOrError"]
    _raise_problem(workspace)
    shown: list[ShownLocation] = []
    for entry in workspace["locationEntries"]:
        shown += _shown(entry["name"], entry["locationOrLoadError"] or {})
    for each in shown:
        if each.place == place:
            return each
    others = first_of([each.place for each in shown], _MOST_NAMED) or "no folder"
    raise ReloadFailedError(
        f"the web interface at {ui_url} shows the prompt sets of {others} and"
        f" not those of {place}: set FLUX_UI_URL to this project's own, such as"
        " http://127.0.0.1:3001 after `make ui PORT=3001`",
        elsewhere=True,
    )


def _shown(name: str, location: Mapping[str, Any]) -> Iterator[ShownLocation]:
    for repository in location.get("repositories", ()):
        for sensor in repository["sensors"]:
            entries = {
                each["label"]: each.get("path") or each.get("text") or ""
                for each in sensor["metadataEntries"]
            }
            if sensor["name"] == SENSOR and _PLACE in entries:
                yield ShownLocation(name, safe_text(entries[_PLACE]), entries.get(_LOAD, ""))


def _raise_problem(answer: Mapping[str, Any]) -> None:
    if "message" in answer:
        raise ReloadFailedError(safe_text(str(answer["message"]).strip().partition("\n")[0]))


def _ask(ui_url: str, query: str, **variables: str) -> Any:
    from urllib.request import ProxyHandler, Request, build_opener

    body = json.dumps({"query": query, "variables": variables}).encode()
    headers = {"content-type": "application/json"}
    try:
        # The settings allow http(s) alone.
        request = Request(f"{ui_url}/graphql", body, headers)  # noqa: S310
        # This machine is never called through a proxy, whatever HTTP_PROXY says.
        direct = [ProxyHandler({})] if is_loopback(urlsplit(ui_url).hostname or "") else []
        with build_opener(*direct).open(request, timeout=_TIMEOUT) as reply:
            answer = json.load(reply)["data"]
    except (URLError, TimeoutError, ConnectionError) as error:
        reason = f"the web interface did not answer there ({getattr(error, 'reason', error)})"
        raise ReloadFailedError(reason) from None
    except (ValueError, KeyError, TypeError):
        answer = None
    if not isinstance(answer, dict):
        raise ReloadFailedError("what answered there is not Dagster's web interface")
    return answer
