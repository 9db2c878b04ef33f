"""The document says what the emulator does: properties tried by schemathesis."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings

from flux_pipeline.emulator.openapi import PREFIXES, document, input_schema
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from tests.emulator.api import KEY, VERSION, Api

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


def test_every_reply_is_one_that_the_document_knows(api: Api) -> None:
    import schemathesis
    from schemathesis.checks import negative_data_rejection

    @settings(max_examples=6, deadline=None, derandomize=True)
    def tried(case: schemathesis.Case[Any]) -> None:
        case.call_and_validate(
            base_url=api.origin,
            headers=_HEADERS,
            excluded_checks=[negative_data_rejection],  # unknown inputs are dropped, as by the API
        )

    schema = schemathesis.openapi.from_dict(document())
    # Both prefixes have the same handlers, so one of them is tried.
    operations = list(schema.exclude(path_regex="^/replicate/").get_all_operations())
    assert len(operations) >= 5
    for operation in operations:
        given(operation.ok().as_strategy())(tried)()


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
