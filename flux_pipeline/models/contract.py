"""The contract of a model as data: what goes in, what comes out, and what it costs.

``flux-pipeline model add`` writes it to a file, and nothing fetches it while images are made: the
provider changes inputs and defaults without a new version, and a fingerprint must not change with
them. What the provider's schema does not tell (which input is the seed, how many pictures a list
takes, the price) stands beside it, to be mended by hand.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeAlias

import rfc8785
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from flux_pipeline.errors import ConfigError, Problem
from flux_pipeline.models.price import Price
from flux_pipeline.request import OFFICIAL

Scalar: TypeAlias = str | int | float | bool
MODEL_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*"


def parse_contract(value: Mapping[str, Any], place: str) -> "Contract":
    """The contract of a mapping; ``place`` names it in messages.

    Raises:
        ConfigError: With everything that is wrong with it.
    """
    try:
        return Contract.model_validate(value)
    except ValidationError as error:
        problems = [
            Problem(place, 0, ".".join(map(str, each["loc"])), _message(each))
            for each in error.errors(include_url=False)
        ]
        raise ConfigError(problems) from None


class InputSpec(BaseModel):
    """One input of a model, as the provider's schema gives it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["string", "integer", "number", "boolean", "array", "object", "any"] = "any"
    items: Literal["string", "integer", "number", "boolean", "uri", "object", "any"] | None = None
    """Of an array: what it holds."""
    format: Literal["uri", "password"] | None = None
    required: bool = False
    nullable: bool = False
    """Null may come back; it is never sent, because the provider refuses it even here."""
    deprecated: bool = False
    enum: tuple[str | int | float, ...] = ()
    minimum: int | float | None = None
    maximum: int | float | None = None
    default: Any = None
    description: str = ""

    @property
    def is_address(self) -> bool:
        """Whether it holds a URL, or a list of them."""
        return "uri" in (self.format, self.items)


class OutputSpec(BaseModel):
    """What comes out of a model: the shape of the output, and where its pictures are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["uri", "uris", "object", "objects"]
    pictures: tuple[str, ...] = ()
    """Of an object: the keys that hold pictures; empty: all."""


def _checked_name(value: str) -> str:
    if not re.fullmatch(MODEL_NAME, value):
        raise ValueError("a model is named owner/name")
    return value


def _checked_version(value: str) -> str:
    if value != OFFICIAL and not re.fullmatch(r"[0-9a-f]{64}", value):
        raise ValueError(f"a version is 64 hex digits (0-9, a-f), or {OFFICIAL}")
    return value


class Contract(BaseModel):
    """A model's contract: the keys of its file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Annotated[str, AfterValidator(_checked_name)]
    version: Annotated[str, AfterValidator(_checked_version)]
    description: str = ""
    schema_sha256: str = ""
    """64 hex digits of the inputs and the output as the provider gave them: tells drift."""
    price: Price = Price()
    output: OutputSpec
    seed: str | None = None
    """The input that is the seed."""
    count: str | None = None
    """The input that asks for a number of pictures."""
    format: str | None = None
    """The input that chooses the file format."""
    image_format: Literal["webp", "jpg", "png"] | None = None
    """The file format where no input chooses it and it is known."""
    width: str | None = None
    height: str | None = None
    """The inputs that give the size of the picture in px."""
    aspect_ratio: str | None = None
    """The input that gives the shape of the picture, such as 16:9."""
    pictures: Mapping[str, int] = Field(default_factory=dict)
    """The inputs that take pictures, and how many each takes at most."""
    weights: tuple[str, ...] = ()
    """The inputs that load weights."""
    prompt_tokens: int | None = None
    inputs: Mapping[str, InputSpec]

    @model_validator(mode="after")
    def _check_roles(self) -> Self:
        roles = [self.seed, self.count, self.format, self.width, self.height, self.aspect_ratio]
        named = [*(role for role in roles if role), *self.pictures, *self.weights]
        if unknown := sorted({name for name in named if name not in self.inputs}):
            raise ValueError(f"there is no input {', '.join(unknown)}")
        for name in self.pictures:
            if not self.inputs[name].is_address:
                raise ValueError(f"{name} takes no addresses, so it can't take pictures")
        return self

    def digest(self) -> str:
        """64 hex digits of what the provider's schema says of inputs and output."""
        facts = {
            "inputs": {name: _facts(spec) for name, spec in self.inputs.items()},
            "output": self.output.kind,
        }
        return hashlib.sha256(rfc8785.dumps(facts)).hexdigest()


def _facts(spec: InputSpec) -> dict[str, Any]:
    facts = spec.model_dump(mode="json", exclude_defaults=True, exclude={"description"})
    facts.pop("nullable", None)  # the two routes that give the schema differ in it
    return facts


def _message(error: Any) -> str:
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    if error["type"] == "extra_forbidden":
        return "is no key of a contract"
    return str(error["msg"])
