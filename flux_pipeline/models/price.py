"""Prices of models in their published forms, and the estimate of one prediction.

The provider's API names no prices: a contract holds what is published, and the invoice decides. An
unknown price is allowed; a plan says so, and a budget refuses to start without one.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from flux_pipeline.request import InputPicture

ONE_MEGAPIXEL = 1_000_000
"""px, as prices mean it."""


class PriceByInput(BaseModel):
    """A price of each picture that depends on the value of one input, such as its resolution."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: str = Field(description="The input whose value decides.")
    usd: Mapping[str, float] = Field(min_length=1, description="USD by the input's value.")


class Price(BaseModel):
    """What one prediction costs, by estimate; nothing given: unknown.

    All parts that are given are added up, such as a price of each run and one of each megapixel.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    usd_per_image: float | None = Field(default=None, ge=0, description="Of each picture made.")
    usd_per_image_by: PriceByInput | None = Field(
        default=None, description="Of each picture made, by the value of an input."
    )
    usd_per_prediction: float | None = Field(default=None, ge=0, description="Of each prediction.")
    usd_per_second: float | None = Field(default=None, ge=0, description="Of each second of GPU.")
    seconds: float | None = Field(
        default=None, gt=0, description="How long a prediction takes, for usd_per_second."
    )
    usd_per_input_megapixel: float | None = Field(
        default=None, ge=0, description="Of each megapixel of the pictures that go in."
    )
    usd_per_output_megapixel: float | None = Field(
        default=None, ge=0, description="Of each megapixel of the pictures that come out."
    )

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        if (self.usd_per_second is None) != (self.seconds is None):
            raise ValueError("usd_per_second and seconds are given together, or none of them")
        if self.usd_per_image is not None and self.usd_per_image_by is not None:
            raise ValueError("usd_per_image and usd_per_image_by exclude each other")
        return self

    @property
    def is_known(self) -> bool:
        """Whether any part of it is given."""
        return bool(self.model_dump(exclude_none=True))

    def estimate(
        self,
        values: Mapping[str, Any],
        *,
        outputs: int,
        size: tuple[int, int] = (0, 0),
        pictures: Sequence[InputPicture] = (),
    ) -> float:
        """The USD of one prediction; 0 where the price is unknown.

        ``values`` are the effective inputs. A picture whose size (px) is not known counts as one
        megapixel.
        """
        by = self.usd_per_image_by
        usd = (self.usd_per_image or 0.0) * outputs
        if by is not None:
            # The dearest where the value is not listed: an estimate must not be too low.
            usd += by.usd.get(str(values.get(by.input)), max(by.usd.values())) * outputs
        usd += self.usd_per_prediction or 0.0
        usd += (self.usd_per_second or 0.0) * (self.seconds or 0.0)
        if self.usd_per_input_megapixel:
            sizes = [(each.width, each.height) for each in pictures]
            usd += self.usd_per_input_megapixel * sum(map(_megapixels, sizes))
        if self.usd_per_output_megapixel:
            usd += self.usd_per_output_megapixel * _megapixels(size) * outputs
        return usd

    def measure(self, metrics: Mapping[str, Any], *, outputs: int) -> float | None:
        """The USD of a finished prediction by the provider's metrics; None where they don't tell.

        ``predict_time`` are seconds, ``image_output_count`` pictures. Source: replies of official
        models and the provider's API document.
        """
        usd, parts = 0.0, self.model_dump(exclude_none=True)
        if not parts or parts.keys() - {"usd_per_image", "usd_per_prediction", *_BY_SECOND}:
            return None
        if self.usd_per_image is not None:
            usd += self.usd_per_image * _number(metrics.get("image_output_count"), outputs)
        if self.usd_per_prediction is not None:
            usd += self.usd_per_prediction
        if self.usd_per_second is not None:
            seconds = _number(metrics.get("predict_time"), -1.0)
            if seconds < 0:
                return None
            usd += self.usd_per_second * seconds
        return usd

    def describe(self) -> str:
        """For people, such as ``0.0300 USD an image``; ``unknown`` where nothing is given."""
        names = {
            "usd_per_image": "an image",
            "usd_per_prediction": "a prediction",
            "usd_per_second": "a second",
            "usd_per_input_megapixel": "a megapixel in",
            "usd_per_output_megapixel": "a megapixel out",
        }
        values = self.model_dump(exclude_none=True)
        parts = [f"{values[name]:g} USD {unit}" for name, unit in names.items() if name in values]
        if self.usd_per_image_by is not None:
            low, high = (
                min(self.usd_per_image_by.usd.values()),
                max(self.usd_per_image_by.usd.values()),
            )
            parts.append(f"{low:g} to {high:g} USD an image by {self.usd_per_image_by.input}")
        return " + ".join(parts) or "unknown"


_BY_SECOND = frozenset({"usd_per_second", "seconds"})


def _megapixels(size: tuple[int, int]) -> float:
    width, height = size
    return width * height / ONE_MEGAPIXEL if width and height else 1.0


def _number(value: Any, missing: float) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and value >= 0 else float(missing)
