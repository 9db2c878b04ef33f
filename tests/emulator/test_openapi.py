"""The document says what the emulator does: properties tried by schemathesis."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from flux_pipeline.emulator.openapi import document, input_schema
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from tests.emulator.api import Api
from tests.emulator.conftest import Start

schema = schemathesis.openapi.from_dict(document())
