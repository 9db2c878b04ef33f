"""Fixtures over the sample files: a test that takes one of them runs once for each file."""

from datetime import UTC, datetime

import pytest

from flux_pipeline.images.labels import Label
from tests.images.samples import samples


@pytest.fixture(params=sorted(samples()))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def body(name: str) -> bytes:
    return samples()[name]


@pytest.fixture
def label() -> Label:
    return Label(
        prompt='雪の城 <b>"frosted" & bright</b>',
        prediction_id="ufawqhfynnddngldkgtslldrkq",
        request_sha256="a" * 64,
        output_index=1,
        image_sha256="b" * 64,
        seed=42,
        run_id="0f8fad5b-d9cb-469f-a165-70867728950e",
        prompt_set="winter",
        prompt_name="castle",
        partition="castle",
        model="lucataco/flux-schnell-lora",
        version="c" * 64,
        config_sha256="d" * 64,
        input='{"num_outputs":4,"prompt":"雪の城 <b>\\"frosted\\" & bright</b>","seed":42}',
        created_at=datetime(2026, 11, 22, 19, 30, 5, 123456, tzinfo=UTC),
        extra={"uri": "s3://pictures/winter/castle.webp", "polls": 2, "cost_usd": 0.003},
    )
