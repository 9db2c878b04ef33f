"""Reads the input of a model with a contract, and says what its prediction has to do.

Values are refused in the provider's own words, an explicit null among them. Source: 422 replies of
the provider, whose texts come from gojsonschema.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from flux_pipeline.emulator import chance
from flux_pipeline.emulator.contracts import Contract, InputField
from flux_pipeline.emulator.inputs import ImageFormat, InvalidField, InvalidInput, unknown_input

Task = Literal["draw", "enlarge", "cut_out", "edit"]
REDACTED = "[REDACTED]"
"""What the API echoes in place of a secret."""
_MEGAPIXEL = 2**20
_CUTS_OUT = re.compile(
    r"(?i)remov\w*[-_ ](?:or replace a |a |the )?(?:bg|background)|rembg"
    r"|background[-_ ]remov|cut[-_ ]?out|matting"
)
_ENLARGES = re.compile(
    r"(?i)upscal|enlarg|esrgan|super[-_ ]?res|aura-sr|gfpgan|increase[-_ ]resolution"
)
_FACTORS = ("scale", "upscale_factor", "scale_factor", "upscale", "factor", "upscaling_factor")
_SIZES = ("size", "image_size", "resolution", "megapixels", "output_megapixels")
_FORMATS: Mapping[str, ImageFormat] = {"webp": "webp", "jpg": "jpg", "jpeg": "jpg", "png": "png"}
_STEPS = ("num_inference_steps", "steps")
_QUALITIES = ("output_quality", "output_compression")


class Job(BaseModel):
    """What one prediction of a model with a contract has to do, as it is kept in the state.

    It is to the renderer what ``ModelInput`` is for lucataco/flux-schnell-lora.
    """

    model_config = ConfigDict(frozen=True)

    task: Task
    kind: Literal["uri", "uris", "object", "objects"]
    keys: tuple[str, ...] = ()
    """Keys of the output's object."""
    prompt: str = ""
    num_outputs: int = 1
    output_format: ImageFormat = "png"
    ending: str = "png"
    """Of the output files' names: the format as the model calls it."""
    output_quality: int = 80
    asked_size: tuple[int, int] | None = None
    """px; None: that of the picture that goes in."""
    factor: float = 1.0
    seed: int | None = None
    has_seed: bool = True
    """False: no two predictions are alike."""
    num_inference_steps: int = 4
    pictures: tuple[tuple[str, int], ...] = ()
    """Input and place in its list (-1: no list) of each picture to be fetched."""
    origin: str = ""
    """Where the client asked, such as ``http://127.0.0.1:8900``."""
    look: str = ""
    """Hex digits of all other values that decide the picture."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, px, where no picture decides them."""
        return self.asked_size or (1024, 1024)


def read_values(
    contract: Contract, sent: object, *, refuse_unknown: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the effective values, and the input as the API echoes it.

    The echo is as sent, without unknown inputs and with secrets redacted.

    Raises:
        InvalidInput: With all refused values at once.
    """
    if not isinstance(sent, Mapping):
        raise InvalidInput((InvalidField("input", "invalid_type", "Expected an object"),))
    problems = list(_problems(contract, sent))
    if refuse_unknown:
        problems += [unknown_input(name) for name in sent if name not in contract.inputs]
    if problems:
        raise InvalidInput(tuple(problems))
    known = {name: value for name, value in sent.items() if name in contract.inputs}
    defaults = {
        name: spec.default for name, spec in contract.inputs.items() if spec.default is not None
    }
    echoed = {
        name: REDACTED if contract.inputs[name].format == "password" else value
        for name, value in known.items()
    }
    return {**defaults, **known}, echoed


def plan_job(
    contract: Contract, values: Mapping[str, Any], echoed: Mapping[str, Any], origin: str
) -> Job:
    """What the prediction of these effective values has to do."""
    pictures = tuple(_pictures(contract, echoed))
    task = task_of(contract, has_picture=bool(pictures))
    form, count = contract.output, _whole(values, contract.count, 1)
    keys = form.pictures or ("image",)
    if form.kind in ("uri", "object"):
        count = 1 if form.kind == "uri" else len(keys)
    ending = _ending(contract, values)
    seed = values.get(contract.seed) if contract.seed else None
    not_in_look = {contract.seed, contract.count, contract.format, *contract.pictures, *_QUALITIES}
    look = sorted((name, value) for name, value in values.items() if name not in not_in_look)
    return Job(
        task=task,
        kind=form.kind,
        keys=keys if form.kind in ("object", "objects") else (),
        prompt=str(values.get("prompt") or ""),
        num_outputs=count,
        output_format=_FORMATS[ending],
        ending=ending,
        output_quality=_whole(values, next(filter(values.__contains__, _QUALITIES), None), 80),
        asked_size=_asked_size(contract, values, task),
        factor=_factor(values) if task == "enlarge" else 1.0,
        seed=int(seed) if isinstance(seed, int | float) else None,
        has_seed=contract.seed is not None,
        num_inference_steps=_whole(values, next(filter(values.__contains__, _STEPS), None), 4),
        pictures=pictures,
        origin=origin,
        look=chance.digest(contract.model, contract.version, look).hex(),
    )


def task_of(contract: Contract, *, has_picture: bool) -> Task:
    """What a model does, by its name and description."""
    about = f"{contract.model} {contract.description}"
    if not has_picture:
        return "draw"
    if _CUTS_OUT.search(about):
        return "cut_out"
    return "enlarge" if _ENLARGES.search(about) else "edit"


def cost_of(
    contract: Contract, values: Mapping[str, Any], job: Job, *, seconds: float, otherwise: float
) -> float:
    """What a prediction costs, USD, by the contract's price.

    ``seconds`` is how long it runs; ``otherwise`` is USD for each picture where no price is known.
    Each picture that goes in counts as one megapixel.
    """
    price, count = contract.price, job.num_outputs
    if not price:
        return otherwise * count
    width, height = job.size
    usd = float(price.get("usd_per_image") or 0) * count
    if by := price.get("usd_per_image_by"):
        listed = by["usd"]
        usd += float(listed.get(str(values.get(by["input"])), max(listed.values()))) * count
    usd += float(price.get("usd_per_prediction") or 0)
    usd += float(price.get("usd_per_second") or 0) * seconds
    usd += float(price.get("usd_per_input_megapixel") or 0) * len(job.pictures)
    usd += float(price.get("usd_per_output_megapixel") or 0) * width * height / 1e6 * count
    return usd


def _problems(contract: Contract, sent: Mapping[str, Any]) -> Iterator[InvalidField]:
    for name, spec in contract.inputs.items():
        if name in sent:
            yield from _refusals(f"input.{name}", spec, sent[name])
        elif spec.required:
            yield InvalidField("input", "required", f"{name} is required")


def _refusals(place: str, spec: InputField, value: Any) -> Iterator[InvalidField]:
    if value is None or not _is_type(spec.type, value):
        text = f"Invalid type. Expected: {spec.type}, given: {_type_name(value)}"
        yield InvalidField(place, "invalid_type", text)
        return
    if spec.enum and value not in spec.enum:
        allowed = ", ".join(
            f'"{each}"' if isinstance(each, str) else str(each) for each in spec.enum
        )
        yield InvalidField(place, "enum", f"{place} must be one of the following: {allowed}")
    if spec.minimum is not None and _is_type("number", value) and value < spec.minimum:
        text = f"Must be greater than or equal to {spec.minimum}"
        yield InvalidField(place, "number_gte", text)
    if spec.maximum is not None and _is_type("number", value) and value > spec.maximum:
        yield InvalidField(place, "number_lte", f"Must be less than or equal to {spec.maximum}")
    if spec.format == "uri" and not _is_address(value):
        yield InvalidField(place, "format", "Does not match format 'uri'")
    if spec.type == "array":
        kind = "string" if spec.items == "uri" else spec.items or "any"
        is_uri = spec.items == "uri"
        item = InputField.model_validate({"type": kind, "format": "uri" if is_uri else None})
        for index, each in enumerate(value):
            yield from _refusals(f"{place}.{index}", item, each)


def _is_type(kind: str, value: Any) -> bool:
    return kind == "any" or _TYPES[kind](value)


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and (isinstance(value, int) or math.isfinite(value))


_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: _is_number(value) and value % 1 == 0,
    "number": _is_number,
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def _type_name(value: Any) -> str:
    return next((kind for kind, is_one in _TYPES.items() if is_one(value)), "null")


def _is_address(value: str) -> bool:
    try:
        return bool(urlsplit(value).scheme)
    except ValueError:
        return False


def _pictures(contract: Contract, given: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """The pictures that go in; masks last, so that the first is the one that is changed."""
    for name in sorted(contract.pictures, key=lambda each: "mask" in each):
        value = given.get(name)
        if isinstance(value, list):
            yield from ((name, index) for index in range(len(value)))
        elif value:
            yield name, -1


def _ending(contract: Contract, values: Mapping[str, Any]) -> str:
    asked = str(values.get(contract.format)) if contract.format else ""
    return asked if asked in _FORMATS else contract.image_format or "png"


def _asked_size(
    contract: Contract, values: Mapping[str, Any], task: Task
) -> tuple[int, int] | None:
    """Width and height in px by the inputs, or None where the picture that goes in decides."""
    if task in ("enlarge", "cut_out"):
        return None
    ratio = _pair(str(values.get(contract.aspect_ratio or "")), ":")
    sizes = [str(values[name]) for name in _SIZES if name in values]
    if ratio is None:
        sides = _whole(values, "width", 0), _whole(values, "height", 0)
        exact = [sides, *(_pair(text, "x") for text in sizes)]
        if found := next((pair for pair in exact if pair and all(pair)), None):
            return _bounded(found[0]), _bounded(found[1])
        if task == "edit":
            return None
    across, down = ratio or (1, 1)
    width = _rounded(math.sqrt(_area(sizes) * across / down))
    return width, _rounded(width * down / across)


def _area(sizes: Sequence[str]) -> float:
    """px, by the first text such as 2K or 0.5 MP; about a megapixel without one."""
    for text in sizes:
        if found := re.fullmatch(r"([0-9]+)K", text):
            return (1024.0 * int(found[1])) ** 2
        if found := re.fullmatch(r"([0-9]?\.?[0-9]+)(?: ?MP)?", text):
            return _MEGAPIXEL * min(float(found[1]), 16.0)
    return float(_MEGAPIXEL)


def _pair(text: str, between: str) -> tuple[int, int] | None:
    found = re.fullmatch(rf"([0-9]{{1,5}}){between}([0-9]{{1,5}})", text)
    sides = (int(found[1]), int(found[2])) if found else (0, 0)
    return sides if all(sides) else None


def _rounded(side: float) -> int:
    return _bounded(round(side / 16) * 16)


def _bounded(side: int) -> int:
    return min(max(side, 16), 4096)


def _factor(values: Mapping[str, Any]) -> float:
    for name in _FACTORS:
        if name in values:
            found = re.search(r"[0-9]+(?:\.[0-9]+)?", str(values[name]))
            return float(found[0]) if found and float(found[0]) > 0 else 1.0
    return 2.0


def _whole(values: Mapping[str, Any], name: str | None, missing: int) -> int:
    value = values.get(name) if name else None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return int(value) if is_number and value is not None else missing
