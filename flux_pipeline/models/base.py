"""Model, ModelInput and the field types that inputs and prompt sets share.

YAML and tables give text, so the field types read ``"3"`` as a number, and ``3.0`` and ``TRUE`` as
spreadsheets and pandas write them; a text that only resembles one (``010``, ``1e400``, ``.nan``,
``yes`` for a switch) is refused where other readers guess.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, ClassVar, Protocol, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter
from pydantic.fields import FieldInfo

from flux_pipeline.models.price import Price
from flux_pipeline.models.signed_url import comparable_url
from flux_pipeline.request import JsonValue

MAX_SEED = 2**32 - 1
MAX_PROMPT_CHARACTERS = 10_000
"""Twenty times what the text encoders read, and small enough for every log and record."""
_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]{0,17}))(?:\.0{1,30})?")
_MAX_EXACT_FLOAT = 2**53
_DECIMAL = re.compile(
    r"-?(?:(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:e-?[0-9]{1,2})?"
)
_SWITCHES = {word: word[0] in "tT" for word in ("true", "True", "TRUE", "false", "False", "FALSE")}
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_FIRST_SURROGATE = 0xD800
_TOKEN_PIECE = re.compile(r"[A-Za-z0-9']+|[^\sA-Za-z0-9']")
_LETTERS_PER_TOKEN = 6


def _whole_from_text(value: Any) -> Any:
    if isinstance(value, str):
        found = _WHOLE.fullmatch(value)
        return int(found[1]) if found else value
    # A column of whole numbers with one gap is a column of floats in a spreadsheet or in pandas.
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) < _MAX_EXACT_FLOAT
    return int(value) if is_whole else value


WholeNumber = Annotated[int, BeforeValidator(_whole_from_text), Field(strict=True)]
"""An int, its decimal text, or either with ``.0``; never a bool or text with leading zeros."""


def _number_from_text(value: Any) -> Any:
    return float(value) if isinstance(value, str) and _DECIMAL.fullmatch(value.lower()) else value


def _switch_from_text(value: Any) -> Any:
    return _SWITCHES.get(value, value) if isinstance(value, str) else value


Number = Annotated[
    float, BeforeValidator(_number_from_text), Field(strict=True, allow_inf_nan=False)
]
"""A finite float or int, or its decimal text; never a bool."""
Switch = Annotated[bool, BeforeValidator(_switch_from_text), Field(strict=True)]
"""True or False, or the words, also as ``True`` and ``TRUE``; not ``yes``, ``on`` or 1."""


def _without_controls(value: Any) -> Any:
    # Before pydantic's own check, which refuses a lone surrogate without saying where it stands.
    if not isinstance(value, str) or (value.isascii() and value.isprintable()):
        return value
    value = value.replace("\r\n", "\n")
    found = _FORBIDDEN.search(value)
    if found is None:
        return value
    code, where = ord(found[0]), f"at character {found.start() + 1}"
    if code >= _FIRST_SURROGATE:
        raise ValueError(
            f"holds half a character (a lone surrogate, \\u{code:04x}) {where}: no encoder takes it"
        )
    name = "a NUL" if code == 0 else f"the control character \\x{code:02x}"
    raise ValueError(f"holds {name} {where}; of those only line feed and tab are allowed")


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty" if not value else "is blank: nothing but white space")
    if len(value) > MAX_PROMPT_CHARACTERS:
        raise ValueError(f"has {len(value):,} characters; at most {MAX_PROMPT_CHARACTERS:,}")
    return value


Text = Annotated[str, BeforeValidator(_without_controls), Field(strict=True)]
"""Text that can be sent and stored: no lone surrogate, no control character but \\n and \\t.

CRLF, as a mapping from elsewhere may have it, becomes \\n.
"""
PromptText = Annotated[Text, AfterValidator(_not_blank)]
"""Text that says something: not blank, at most ``MAX_PROMPT_CHARACTERS``."""


def are_plain_prompts(texts: Sequence[str]) -> bool:
    """Whether every text is a ``PromptText`` as it stands; False also where it can't tell.

    Printable ASCII is found out of all of them together, at a tenth of the cost.
    """
    together = "".join(texts)
    is_plain = together.isascii() and together.isprintable() and all(map(str.strip, texts))
    return is_plain and max(map(len, texts), default=0) <= MAX_PROMPT_CHARACTERS


class ModelInput(Protocol):
    """The checked input of one prediction. Frozen, and equal where all given fields are."""

    @property
    def prompt(self) -> str:
        """What the image shows; empty for a model without prompts."""
        ...

    @property
    def seed(self) -> int | None:
        """Where the random numbers start; None where none was given."""
        ...

    @property
    def outputs(self) -> int:
        """Number of images asked for."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in px; (0, 0) where they are known only when the image is there."""
        ...

    @property
    def shape(self) -> str:
        """Such as ``16:9``, where the shape is asked for; empty where nothing says it."""
        ...

    @property
    def image_format(self) -> str:
        """``webp``, ``jpg`` or ``png``; empty where the model chooses."""
        ...

    def warnings(self) -> Iterator[tuple[str, str]]:
        """Pairs of field and message about values that are allowed but perhaps not meant."""
        ...

    def with_seed(self, seed: int) -> "ModelInput":
        """The same input with this seed, which is not checked again."""
        ...

    def sent(self) -> dict[str, JsonValue]:
        """The JSON object to send: the given fields, and nothing else."""
        ...

    def effective(self) -> dict[str, JsonValue]:
        """The fields that decide the image: defaults filled in, secrets redacted, the rest dropped.

        Of an address that was signed, the signature and its dates are dropped too.
        """
        ...

    def values(self) -> dict[str, Any]:
        """Every field by its name, with the model's default where none was given."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Model(ABC):
    """A model of the provider at one version: what goes in, what comes out, what it costs."""

    name: str
    """``owner/name``."""
    version: str
    """64 hex digits, or ``official``."""
    price: Price = field(hash=False)
    prompt_tokens: int | None = None
    """How many tokens of a prompt its text encoder reads; it cuts off the rest silently. None where
    that is not known."""
    fields: Mapping[str, FieldInfo] = field(repr=False, hash=False)
    """The inputs by name, in their order, with type, limits, default and description."""
    address_fields: frozenset[str] = frozenset()
    """Inputs that may hold a URL, and with it a token."""
    pictures: Mapping[str, int] = field(default_factory=dict, hash=False)
    """The inputs that take pictures, with how many each takes."""
    weights: tuple[str, ...] = ()
    """Inputs that load weights: the provider reloads at each change, so requests are ordered."""
    seed_input: str = "seed"
    """The input that is the seed; empty where the model takes none."""
    seed_range: tuple[int, int] = (0, MAX_SEED)
    """The smallest and the largest seed."""
    secrets: frozenset[str] = frozenset()
    """Inputs that hold a key, which is named by its environment variable."""
    free_inputs: frozenset[str] = frozenset({"prompt", "seed"})
    """Prompt and seed, where they stand for themselves: no rule, price, size or warning looks at
    them together with another input, and any ``PromptText`` is a prompt. Requests that differ in
    them alone share the rest."""

    @abstractmethod
    def validate(self, values: Mapping[str, Any]) -> ModelInput:
        """The values as this model's input.

        Raises:
            pydantic.ValidationError: With every mistake.
        """

    @abstractmethod
    def validator(self, name: str) -> Callable[[Any], Any]:
        """The function that checks one input by itself, and gives its value as ``validate`` does.

        It raises pydantic.ValidationError, as ``validate``.
        """

    @abstractmethod
    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema of each input, by name."""

    @property
    def defaults(self) -> Mapping[str, JsonValue]:
        """What the model fills in where an input is not given; without those that are null."""
        return {
            name: each.default
            for name, each in self.fields.items()
            if each.default is not None and not each.is_required()
        }

    @property
    def takes_lists(self) -> bool:
        """Whether a value may be a list or an object, which has no hash."""
        return False

    @property
    def recorded_defaults(self) -> Mapping[str, JsonValue]:
        """The defaults that a request keeps, because they may change; none of built-in rules."""
        return {}

    @property
    def recorded_price(self) -> Mapping[str, Any]:
        """The price that a request keeps, because it may change; none of built-in rules."""
        return {}

    @property
    def needs_prompt(self) -> bool:
        """Whether a prediction without a prompt is refused."""
        return "prompt" in self.fields and self.fields["prompt"].is_required()

    @property
    def takes_seed(self) -> bool:
        """Whether two takes of one input can be told apart by a seed."""
        return bool(self.seed_input)

    def fit_seed(self, seed: int) -> int:
        """The seed, brought into the model's range."""
        low, high = self.seed_range
        return seed if low <= seed <= high else low + seed % (high - low + 1)


class TypedInput(BaseModel):
    """An input with rules of its own in Python, checked before anything is paid.

    No rule looks at ``prompt`` or ``seed`` together with another field (``Model.free_inputs``).
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
        """Number of images asked for."""

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """Width and height in px; (0, 0) where they are known only when the image is there."""

    @property
    def shape(self) -> str:
        """Empty: ``size`` says more."""
        return ""

    @property
    @abstractmethod
    def image_format(self) -> str:
        """``webp``, ``jpg`` or ``png``."""

    @abstractmethod
    def without_effect(self) -> frozenset[str]:
        """Names of fields that change nothing, given the others."""

    def warnings(self) -> Iterator[tuple[str, str]]:
        """Pairs of field and message about values that are allowed but perhaps not meant."""
        yield from ()

    def with_seed(self, seed: int) -> Self:
        """The same input with this seed, which is not checked again."""
        return self.model_copy(update={"seed": seed})

    def sent(self) -> dict[str, JsonValue]:
        """The JSON object to send: the given fields, and nothing else."""
        return self.model_dump(exclude_unset=True)

    def effective(self) -> dict[str, JsonValue]:
        """See ``ModelInput.effective``.

        Fields that are None are left out, so that a field which a model gains later changes no
        fingerprint made before.
        """
        values: dict[str, JsonValue] = self.model_dump(
            exclude_none=True, exclude=set(self.without_effect())
        )
        for name in self.address_fields & values.keys():
            values[name] = comparable_url(str(values[name]))
        return values

    def values(self) -> dict[str, Any]:
        """Every field by its name, with the model's default where none was given."""
        return self.__dict__


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedModel(Model):
    """A model whose input is a ``TypedInput``."""

    input_type: type[TypedInput]

    def validate(self, values: Mapping[str, Any]) -> TypedInput:
        """See ``Model.validate``."""
        return self.input_type.model_validate(values)

    def validator(self, name: str) -> Callable[[Any], Any]:
        """See ``Model.validator``."""
        return _validator(self.input_type, name)

    def json_schema(self) -> dict[str, Any]:
        """See ``Model.json_schema``."""
        properties: dict[str, Any] = self.input_type.model_json_schema()["properties"]
        return properties


@cache
def _validator(input_type: type[TypedInput], name: str) -> Callable[[Any], Any]:
    info = input_type.model_fields[name]
    kind: Any = Annotated[info.annotation, info]
    return TypeAdapter[Any](kind).validator.validate_python


def estimate_tokens(text: str) -> int:
    """About how many tokens a text has; the true number may differ by a quarter.

    A tokenizer would be 2 MB of vocabulary for one warning. A word counts one token for every six
    letters; each sign, and each letter of a script without spaces, counts one.
    """
    return sum(-(-len(piece) // _LETTERS_PER_TOKEN) for piece in _TOKEN_PIECE.findall(text))
