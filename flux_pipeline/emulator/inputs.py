"""Reads a model's input as the API does: checks known values and drops unknown ones.

Like the real API it ignores inputs that it doesn't know, which is why a typo is paid for, and
answers 422 only to values out of range.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
)
from pydantic_core import PydanticCustomError

from flux_pipeline.emulator import chance

SIZES: dict[str, tuple[int, int]] = {
    "1:1": (1024, 1024),
    "16:9": (1344, 768),
    "21:9": (1536, 640),
    "3:2": (1216, 832),
    "2:3": (832, 1216),
    "4:5": (896, 1088),
    "5:4": (1088, 896),
    "3:4": (896, 1152),
    "4:3": (1152, 896),
    "9:16": (768, 1344),
    "9:21": (640, 1536),
}
"""Width and height in px of each aspect ratio."""
ImageFormat = Literal["webp", "jpg", "png"]


def _known_ratio(ratio: str) -> str:
    if ratio not in SIZES:
        raise PydanticCustomError("enum", f"must be one of {', '.join(SIZES)}")
    return ratio


def _integral(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_integral)]
"""An integer as JSON Schema means it: 2.0 is one."""


class ModelInput(BaseModel):
    """The input of lucataco/flux-schnell-lora, with the model's own limits and defaults."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    prompt: str = Field(pattern=r"\S")
    hf_lora: str | None = None
    lora_scale: float = Field(default=0.8, ge=0, le=1)
    num_outputs: Whole = Field(default=1, ge=1, le=4)
    aspect_ratio: Annotated[str, AfterValidator(_known_ratio)] = "1:1"
    output_format: ImageFormat = "webp"
    output_quality: Whole = Field(default=80, ge=0, le=100)
    image: str | None = None
    prompt_strength: float = Field(default=0.8, ge=0, le=1)
    num_inference_steps: Whole = Field(default=4, ge=1, le=12)
    seed: Whole | None = Field(default=None, ge=-(2**63), lt=2**64)
    disable_safety_checker: StrictBool = False

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of every output, px."""
        return SIZES[self.aspect_ratio]


@dataclass(frozen=True, slots=True)
class InvalidField:
    """One refused value, in the words of the API."""

    field: str
    kind: str
    description: str


class InvalidInput(Exception):
    """Raised with every refused value of one input; the API answers 422 and creates nothing."""

    def __init__(self, fields: tuple[InvalidField, ...]) -> None:
        super().__init__("; ".join(f"{field.field}: {field.description}" for field in fields))
        self.fields = fields


def read_input(sent: object, *, refuse_unknown: bool = False) -> tuple[ModelInput, dict[str, Any]]:
    """Return the typed input, and the object as the API echoes it: as sent, without unknown inputs.

    Raises:
        InvalidInput: With all refused values at once.
    """
    if not isinstance(sent, Mapping):
        raise InvalidInput((InvalidField("input", "invalid_type", "Expected an object"),))
    try:
        typed = ModelInput.model_validate(sent)
    except ValidationError as error:
        raise InvalidInput(tuple(map(_as_field, error.errors()))) from None
    known = ModelInput.model_fields
    if refuse_unknown and (unknown := [name for name in sent if name not in known]):
        raise InvalidInput(tuple(map(unknown_input, unknown)))
    return typed, {name: value for name, value in sent.items() if name in known}


def unknown_input(name: object) -> InvalidField:
    """What a provider says of an input that the model doesn't know, where it refuses those."""
    text = f"Additional property {name} is not allowed"
    return InvalidField("input", "additional_property_not_allowed", text)


def input_sha(version: str, echoed: Mapping[str, Any]) -> str:
    """64 hex digits that identify one (version, input) pair, which should be charged once."""
    text = json.dumps([version, echoed], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def drawn_seed(*identity: object) -> int:
    """The seed that the model draws where none was sent: one of 65,536, like ``urandom(2)``."""
    return chance.number("seed", *identity) % 65536


def _as_field(error: Mapping[str, Any]) -> InvalidField:
    name = ".".join(["input", *map(str, error["loc"])])
    kind = "required" if error["type"] == "missing" else str(error["type"])
    text = f"{error['loc'][-1]} is required" if kind == "required" else str(error["msg"])
    return InvalidField(name, kind, text)
