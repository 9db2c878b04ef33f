"""What a model is to this package: a pinned version, a typed input, a price."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field

from flux_pipeline.models.fields import PromptText, WholeNumber
from flux_pipeline.redaction import redact_url
from flux_pipeline.request import JsonValue

MAX_SEED = 2**32 - 1


class ModelInput(BaseModel):
    """The input of one prediction, checked against the model's limits before anything is paid.

    Frozen; unknown fields are refused, because the provider drops them silently and charges. Only
    fields that were given are sent; the provider fills in the rest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    address_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields that may hold a URL, and with it a token."""

    prompt: PromptText = Field(description="What the image shows.")
    seed: WholeNumber | None = Field(
        default=None,
        ge=0,
        le=MAX_SEED,
        description="Where the random numbers start. Left out: derived from the names of set and "
        "prompt, the take and the day. none: not sent, the provider draws one of 65,536.",
    )

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Images asked for."""

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """Width and height in px; (0, 0) where they are known only when the image is there."""

    @property
    @abstractmethod
    def image_format(self) -> str:
        """``webp``, ``jpg`` or ``png``."""

    @abstractmethod
    def without_effect(self) -> frozenset[str]:
        """Fields that change nothing, given the others."""

    def warnings(self) -> Iterator[tuple[str, str]]:
        """Pairs of field and message: allowed, and perhaps not meant."""
        yield from ()

    def with_seed(self, seed: int) -> Self:
        """The same input with this seed, which is not checked again."""
        return self.model_copy(update={"seed": seed})

    def sent(self) -> dict[str, JsonValue]:
        """The JSON object to send: the given fields, and nothing else."""
        return self.model_dump(exclude_unset=True)

    def effective(self) -> dict[str, JsonValue]:
        """What decides the image: defaults filled in, secrets redacted, the ineffective dropped.

        Fields that are None are left out, so that a field that a model gains later changes no
        fingerprint of today.
        """
        values: dict[str, JsonValue] = self.model_dump(
            exclude_none=True, exclude=set(self.without_effect())
        )
        for name in self.address_fields & values.keys():
            values[name] = redact_url(str(values[name]))
        return values


@dataclass(frozen=True, slots=True)
class Model:
    """A model that can be asked, at one pinned version."""

    name: str
    """``owner/name``."""
    version: str
    """64 hex digits."""
    input_type: type[ModelInput]
    usd_per_image: float
    """Estimate; plans and budgets know no other price."""
    prompt_tokens: int
    """What its text encoder reads of a prompt; the rest is cut off without a word."""
