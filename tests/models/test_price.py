"""Prices of every published form: the estimate before, and what the metrics tell after."""

import pytest
from pydantic import ValidationError

from flux_pipeline.models.price import Price
from flux_pipeline.request import InputPicture

PICTURE = InputPicture("a" * 64, "a.png", 1, "image/png", width=2000, height=1000)


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        ({"usd_per_image": 0.03}, 0.06),
        ({"usd_per_prediction": 0.01}, 0.01),
        ({"usd_per_second": 0.001, "seconds": 8}, 0.008),
        ({"usd_per_prediction": 0.015, "usd_per_input_megapixel": 0.01}, 0.035),
        ({"usd_per_output_megapixel": 0.01}, 0.04),
        ({"usd_per_image_by": {"input": "resolution", "usd": {"1K": 0.07, "4K": 0.15}}}, 0.14),
        ({}, 0.0),
    ],
)
def test_an_estimate_adds_up_the_parts(price: dict[str, object], expected: float) -> None:
    found = Price.model_validate(price).estimate(
        {"resolution": "1K"}, outputs=2, size=(2000, 1000), pictures=[PICTURE]
    )
    assert found == pytest.approx(expected)


def test_a_value_without_a_listed_price_counts_as_the_dearest() -> None:
    price = Price.model_validate(
        {"usd_per_image_by": {"input": "resolution", "usd": {"1K": 0.07, "4K": 0.15}}}
    )
    assert price.estimate({"resolution": "8K"}, outputs=1) == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("price", "metrics", "expected"),
    [
        ({"usd_per_image": 0.03}, {"image_output_count": 3}, 0.09),
        ({"usd_per_image": 0.03}, {}, 0.06),
        ({"usd_per_second": 0.001, "seconds": 8}, {"predict_time": 2.5}, 0.0025),
        ({"usd_per_second": 0.001, "seconds": 8}, {}, None),
        ({"usd_per_output_megapixel": 0.01}, {"predict_time": 2.5}, None),
        ({}, {"predict_time": 2.5}, None),
    ],
)
def test_metrics_tell_what_it_came_to_or_nothing(
    price: dict[str, object], metrics: dict[str, float], expected: float | None
) -> None:
    found = Price.model_validate(price).measure(metrics, outputs=2)
    assert found == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    "price",
    [
        {"usd_per_second": 0.001},
        {"usd_per_image": 1, "usd_per_image_by": {"input": "a", "usd": {"b": 1}}},
        {"usd_per_image": -1},
        {"euro": 1},
    ],
)
def test_a_price_that_means_nothing_is_refused(price: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Price.model_validate(price)
