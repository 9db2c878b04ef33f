"""A model whose rules are a contract's: its inputs are checked as the provider's schema says."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import GenericAlias
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import SchemaValidator, core_schema

from flux_pipeline.models.base import (
    MAX_SEED,
    Model,
    Number,
    PromptText,
    Switch,
    Text,
    WholeNumber,
)
from flux_pipeline.models.contract import Contract, InputSpec
from flux_pipeline.models.lora import checked_url
from flux_pipeline.models.signed_url import comparable_url
from flux_pipeline.request import PICTURE_PREFIX, SECRET_PREFIX, JsonValue

MAX_OUTPUTS = 16
_AS_THE_INPUT = "match_input_image"
"""The aspect ratio by which the models that edit leave the shape to the picture that goes in."""
_RATIO = re.compile(r"[1-9][0-9]?:[1-9][0-9]?")
_SIZE = re.compile(r"[0-9]+x[0-9]+")
_LARGEST_SEED = 2**31 - 1
"""Where a contract gives no range: every model known takes 31 bits."""


def build_model(contract: Contract) -> "ContractModel":
    """The model of a contract; its validator is compiled once."""
    fields, adapters = {}, {}
    for name, spec in contract.inputs.items():
        kind = _annotation(name, spec, contract)
        fields[name] = _describe(kind, spec)
        adapters[name] = TypeAdapter[Any](kind)
    seed = contract.inputs.get(contract.seed or "")
    return ContractModel(
        name=contract.model,
        version=contract.version,
        price=contract.price,
        prompt_tokens=contract.prompt_tokens,
        fields=fields,
        address_fields=frozenset(name for name, spec in contract.inputs.items() if spec.is_address),
        pictures=dict(contract.pictures),
        weights=contract.weights,
        seed_input=contract.seed or "",
        seed_range=_seed_range(seed),
        secrets=frozenset(
            name for name, spec in contract.inputs.items() if spec.format == "password"
        ),
        free_inputs=_free_inputs(contract),
        contract=contract,
        whole=_validator(adapters, contract),
        adapters=adapters,
    )


def _seed_range(seed: InputSpec | None) -> tuple[int, int]:
    """The seeds to draw from: those below 0 mean "random" wherever they are allowed."""
    if seed is None:
        return 0, MAX_SEED
    low = max(0, int(seed.minimum)) if seed.minimum is not None else 0
    high = int(seed.maximum) if seed.maximum is not None else _LARGEST_SEED
    return low, max(low, high)


def _free_inputs(contract: Contract) -> frozenset[str]:
    """See ``Model.free_inputs``: the seed, and a prompt that is a text and nothing else."""
    by = contract.price.usd_per_image_by
    roles = [contract.count, contract.format, contract.width, contract.height]
    roles += [contract.aspect_ratio, by.input if by else None, *contract.weights]
    prompt, free = contract.inputs.get("prompt"), {contract.seed or ""}
    if prompt and prompt.type == "string" and not (prompt.enum or prompt.format):
        free |= {"prompt"} - {*roles}
    return frozenset(free) - {""}


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractModel(Model):
    """A model whose rules are a contract's."""

    contract: Contract = field(repr=False, hash=False)
    whole: SchemaValidator = field(repr=False, hash=False, compare=False)
    adapters: Mapping[str, TypeAdapter[Any]] = field(repr=False, hash=False, compare=False)

    @property
    def takes_lists(self) -> bool:
        """See ``Model.takes_lists``."""
        return True

    @property
    def recorded_defaults(self) -> Mapping[str, JsonValue]:
        """See ``Model.recorded_defaults``."""
        return self.defaults

    @property
    def recorded_price(self) -> Mapping[str, Any]:
        """See ``Model.recorded_price``."""
        return self.contract.price.model_dump(exclude_none=True)

    def validate(self, values: Mapping[str, Any]) -> "ContractInput":
        """See ``Model.validate``."""
        return ContractInput(self, self.whole.validate_python(dict(values)))

    def validator(self, name: str) -> Callable[[Any], Any]:
        """See ``Model.validator``."""
        return self.adapters[name].validator.validate_python

    def json_schema(self) -> dict[str, Any]:
        """See ``Model.json_schema``."""
        return {
            name: {**adapter.json_schema(), **_documented(name, self.contract.inputs[name])}
            for name, adapter in self.adapters.items()
        }


@dataclass(frozen=True, slots=True)
class ContractInput:
    """The checked input of one prediction of a ``ContractModel``."""

    model: ContractModel = field(compare=False, repr=False)
    given: Mapping[str, Any] = field(hash=False)

    @property
    def prompt(self) -> str:
        """See ``ModelInput.prompt``."""
        return str(self.given.get("prompt", ""))

    @property
    def seed(self) -> int | None:
        """See ``ModelInput.seed``."""
        value = self.given.get(self.model.seed_input)
        return value if isinstance(value, int) else None

    @property
    def outputs(self) -> int:
        """See ``ModelInput.outputs``."""
        count = self._value(self.model.contract.count)
        return count if isinstance(count, int) and 1 <= count <= MAX_OUTPUTS else 1

    @property
    def size(self) -> tuple[int, int]:
        """See ``ModelInput.size``: known where the contract says which inputs give it."""
        contract = self.model.contract
        if any(name in self.given for name in self.model.pictures):
            return 0, 0
        width, height = self._value(contract.width), self._value(contract.height)
        if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
            return width, height
        return 0, 0

    @property
    def shape(self) -> str:
        """See ``ModelInput.shape``: known where nothing else given may decide the shape.

        A picture that goes in decides it, unless the model lets the user choose that
        (``match_input_image``); so does a size such as ``1024x768``.
        """
        contract = self.model.contract
        if contract.aspect_ratio is None or any(self.size):
            return ""
        choices = contract.inputs[contract.aspect_ratio].enum or ()
        if self.given.keys() & self.model.pictures.keys() and _AS_THE_INPUT not in choices:
            return ""
        free = self.model.free_inputs
        others = (value for name, value in self.given.items() if name not in free)
        if any(isinstance(value, str) and _SIZE.fullmatch(value) for value in others):
            return ""
        chosen = str(self._value(contract.aspect_ratio))
        return chosen if _RATIO.fullmatch(chosen) else ""

    @property
    def image_format(self) -> str:
        """See ``ModelInput.image_format``."""
        contract = self.model.contract
        chosen = str(self._value(contract.format) or contract.image_format or "")
        chosen = "jpg" if chosen == "jpeg" else chosen
        return chosen if chosen in {"webp", "jpg", "png"} else ""

    def warnings(self) -> Iterator[tuple[str, str]]:
        """See ``ModelInput.warnings``: inputs that the provider will drop."""
        for name in self.given:
            if self.model.contract.inputs[name].deprecated:
                yield name, "is deprecated by the model: it may be ignored, or soon be refused"

    def with_seed(self, seed: int) -> "ContractInput":
        """See ``ModelInput.with_seed``."""
        return ContractInput(self.model, {**self.given, self.model.seed_input: seed})

    def sent(self) -> dict[str, JsonValue]:
        """See ``ModelInput.sent``."""
        return dict(self.given)

    def effective(self) -> dict[str, JsonValue]:
        """See ``ModelInput.effective``: without keys, which decide no picture."""
        values: dict[str, JsonValue] = {
            name: value for name, value in self.values().items() if name not in self.model.secrets
        }
        for name in self.model.address_fields & values.keys():
            values[name] = _comparable(values[name])
        return values

    def values(self) -> dict[str, Any]:
        """See ``ModelInput.values``."""
        return {**self.model.defaults, **self.given}

    def _value(self, name: str | None) -> Any:
        if name is None:
            return None
        return self.given.get(name, self.model.contract.inputs[name].default)


def _comparable(value: JsonValue) -> JsonValue:
    if isinstance(value, list):
        return [_comparable(each) for each in value]
    return comparable_url(value) if isinstance(value, str) and "://" in value else value


def _validator(adapters: Mapping[str, TypeAdapter[Any]], contract: Contract) -> SchemaValidator:
    """The validator of a mapping with these inputs, whatever their names are."""
    fields = {
        name: core_schema.typed_dict_field(
            adapter.core_schema, required=contract.inputs[name].required
        )
        for name, adapter in adapters.items()
    }
    schema = core_schema.typed_dict_schema(fields, extra_behavior="forbid")
    return SchemaValidator(schema, core_schema.CoreConfig(hide_input_in_errors=True))


def _describe(kind: Any, spec: InputSpec) -> FieldInfo:
    """Type, limits, default and description of one input, for messages and editors."""
    info = FieldInfo.from_annotation(kind)
    info.description = spec.description or None
    if not spec.required:
        info.default = spec.default
    return info


def _annotation(name: str, spec: InputSpec, contract: Contract) -> Any:
    """The type that checks one input."""
    if spec.enum:
        return _choice(spec)
    if spec.type == "array":
        return _list(spec, contract.pictures.get(name))
    if spec.type in ("integer", "number"):
        return Annotated[_SIMPLE[spec.type], Field(ge=spec.minimum, le=spec.maximum)]
    if name == "prompt" and spec.required:
        return PromptText
    checks = {"password": _checked_secret, "uri": _checked_address}
    return (
        Annotated[Text, AfterValidator(checks[spec.format])] if spec.format else _SIMPLE[spec.type]
    )


def _list(spec: InputSpec, most: int | None) -> Any:
    """A list, of at most so many pictures; one text alone counts as a list of it."""
    items: Any = GenericAlias(list, (_item(spec, is_picture=most is not None),))
    return Annotated[items, BeforeValidator(_as_list), Field(max_length=most)]


_SIMPLE: dict[str, Any] = {
    "string": Text,
    "integer": WholeNumber,
    "number": Number,
    "boolean": Switch,
    "object": dict[str, Any],
    "any": Text | WholeNumber | Number | Switch,
    "uri": Text,
}


def _item(spec: InputSpec, *, is_picture: bool) -> Any:
    if is_picture or spec.items == "uri":
        return Annotated[Text, AfterValidator(_checked_address)]
    return _SIMPLE[spec.items or "any"]


def _choice(spec: InputSpec) -> Any:
    """One of the enum's values, given as such or as its text."""
    by_text = {str(each): each for each in spec.enum}

    def read(value: Any) -> Any:
        is_scalar = isinstance(value, str | int | float) and not isinstance(value, bool)
        return by_text.get(str(value), value) if is_scalar else value

    return Annotated[Literal[tuple(spec.enum)], BeforeValidator(read)]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _checked_address(value: str) -> str:
    if not value.startswith(PICTURE_PREFIX):
        checked_url(value)
    return value


def _checked_secret(value: str) -> str:
    name = value.removeprefix(SECRET_PREFIX)
    if not value.startswith(SECRET_PREFIX) or not name.isidentifier():
        raise ValueError(
            f"is a secret: write {SECRET_PREFIX}NAME with the name of the environment variable"
            " that holds it"
        )
    return value


def _documented(name: str, spec: InputSpec) -> dict[str, Any]:
    """What an editor shows of an input."""
    about: dict[str, Any] = {"description": spec.description or f"{name}, as the model takes it."}
    if spec.default is not None and not spec.required:
        about["default"] = spec.default
    return about | ({"deprecated": True} if spec.deprecated else {})
