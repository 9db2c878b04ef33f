"""The document says what the emulator does: properties tried by schemathesis."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import settings
from schemathesis.checks import negative_data_rejection

from flux_pipeline.emulator.openapi import PREFIXES, document, input_schema
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from tests.emulator.api import KEY, VERSION, Api

# Both prefixes have the same handlers, so one of them is tried.
_SCHEMA = schemathesis.openapi.from_dict(document()).exclude(path_regex="^/replicate/")
_HEADERS = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    options = EmulatorOptions(
        time_scale=0,
        render="cheap",
        accepted_keys=frozenset({KEY}),
        creates_per_minute=None,
        calls_per_minute=None,
    )
    with EmulatorServer(options) as server:
        api = Api(server.origin)
        yield api
        api.close()


@_SCHEMA.parametrize()
@settings(max_examples=6, deadline=None, derandomize=True)
def test_every_reply_is_one_that_the_document_knows(case: schemathesis.Case[Any], api: Api) -> None:
    case.call_and_validate(
        base_url=api.origin,
        headers=_HEADERS,
        excluded_checks=[negative_data_rejection],  # unknown inputs are dropped, as by the real API
    )


def test_the_document_is_served(api: Api) -> None:
    assert api.files.get(f"{api.origin}/openapi.json").json() == document()


def test_every_path_is_there_with_both_prefixes() -> None:
    paths = set(document()["paths"])
    for prefix in PREFIXES:
        assert {f"{prefix}/predictions", f"{prefix}/predictions/{{id}}"} <= paths


def test_the_inputs_limits_are_in_the_document() -> None:
    properties = input_schema()["properties"]
    assert (properties["num_outputs"]["minimum"], properties["num_outputs"]["maximum"]) == (1, 4)
    assert len(properties["aspect_ratio"]["enum"]) == 11
    assert input_schema()["required"] == ["prompt"]


def test_the_examples_version_is_accepted(api: Api) -> None:
    assert api.create()["version"] == VERSION
