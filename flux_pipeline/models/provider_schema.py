"""Reads a model's contract from the provider's description of it, as ``GET /v1/models/…`` replies.

The description is an OpenAPI 3.0 document that Cog writes, of which ``Input`` and ``Output`` count.
Two routes give it in two forms: enums as ``allOf`` with a reference, or in place. Both are read, as
are ``anyOf`` with null, inputs without a type or an order, and defaults that are null. Source: 377
replies captured in March 2026, and Cog's own history of that document.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from flux_pipeline.models.contract import Contract, InputSpec, OutputSpec, parse_contract
from flux_pipeline.models.price import Price
from flux_pipeline.request import OFFICIAL

_TYPES = frozenset({"string", "integer", "number", "boolean", "array", "object"})
_LIMITS = ("minimum", "maximum")
_VERSION = re.compile(r"[0-9a-f]{64}")
_NUMBERS = ("number", "integer", "boolean")
_NO_PICTURE_NAME = re.compile(
    r".*(?:lora|weights?|model|checkpoint|audio|video|voice|zip|tar|text|json|webhook).*"
)
_NO_PICTURE = re.compile(
    r"(?i)\b(?:video|audio|voice|lora|weights|checkpoint|safetensors|zip|archive|text file|json|web"
    r" ?(?:site|page|hook))"
)
"""Words of a description that say what an address leads to, where that is no picture."""
_SEEDS = ("seed", "random_seed", "noise_seed")
_COUNTS = ("num_outputs", "num_images", "number_of_images", "images_num", "n_images", "num_samples")
_FORMATS = ("output_format", "format", "image_format", "output_type")
_SHAPES = (
    "size",
    "resolution",
    "megapixels",
    "output_megapixels",
    "image_size",
    "scale",
    "scale_factor",
)
_WEIGHTS = re.compile(
    r"hf_lora|(?:extra_|replicate_)?(?:lora_)?weights|(?:extra_)?lora(?:_links?|s)?"
)
_KNOWN_FORMATS = frozenset({"webp", "jpg", "jpeg", "png"})
_MOST_PICTURES = re.compile(r"(?i)(?:up to|at most|max(?:imum)?(?: of)?|1-)\s*(\d{1,2})")
_LIST_OF_PICTURES = 10
"""Pictures in a list whose description gives no number: most models take at least so many."""
_OTHER_MEDIA = {
    "video": re.compile(r"(?i)\bvideos?\b"),
    "audio": re.compile(r"(?i)\b(?:audio|speech|music|voice|sound)s?\b"),
    "3D": re.compile(r"(?i)\b(?:3d|mesh|gaussian splat)\b"),
    "SVG": re.compile(r"(?i)\bsvg\b|\bvector (?:art|graphic|image)s?\b"),
}
_MEDIA_INPUTS = {
    "video": frozenset(
        {"fps", "num_frames", "frames_per_second", "video_length", "motion_bucket_id"}
    ),
}
_MEDIA_FILES = {
    "video": ("mp4", "webm", "mov", "mkv", "avi"),
    "audio": ("mp3", "wav", "flac", "ogg", "m4a"),
    "3D": ("glb", "obj", "ply", "stl", "usdz"),
    "SVG": ("svg",),
    "text": ("txt", "json", "csv", "md", "srt"),
    "an archive": ("zip", "tar", "gz"),
}


class NotAPictureModelError(ValueError):
    """A model whose output is no picture that can be stored; the message says what it is."""


def read_contract(
    reply: Mapping[str, Any], *, name: str, version: str = "", place: str = "the provider's reply"
) -> Contract:
    """The contract of a model from the provider's reply about it, or about one of its versions.

    ``name`` is ``owner/name``. ``version`` (64 hex digits) is the one to pin; empty: the one that
    the reply names, or ``official`` for a model that the provider keeps itself.

    Raises:
        NotAPictureModelError: It makes text, video, audio, SVG or something else.
        ConfigError: The reply holds a value that no contract has.
        ValueError: The reply holds no description of inputs and output.
    """
    described = _description(reply)
    schemas = _schemas(described)
    output = _read_output(schemas.get("Output"), schemas)
    inputs = {each: _read_input(value, schemas) for each, value in _properties(schemas)}
    required = schemas["Input"].get("required") or ()
    inputs = {
        each: spec.model_copy(update={"required": each in required})
        for each, spec in inputs.items()
    }
    _refuse_other_media(reply, inputs)
    contract = parse_contract(
        {
            "model": name,
            "version": version or _read_version(reply, described),
            "description": str(reply.get("description") or "").strip(),
            "price": _read_price(reply.get("x-price")).model_dump(exclude_none=True),
            "output": output.model_dump(),
            **_roles(inputs),
            "inputs": {each: spec.model_dump() for each, spec in inputs.items()},
        },
        place,
    )
    return contract.model_copy(update={"schema_sha256": contract.digest()})


def _description(reply: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a reply that holds the OpenAPI document: a version, or the reply itself."""
    version = reply.get("latest_version")
    for part in (version, reply):
        if isinstance(part, Mapping) and isinstance(part.get("openapi_schema"), Mapping):
            return part
    raise ValueError(
        "holds no openapi_schema: save the reply of GET /v1/models/OWNER/NAME, or of one version"
    )


def _schemas(described: Mapping[str, Any]) -> Mapping[str, Any]:
    components = described["openapi_schema"].get("components")
    schemas = components.get("schemas") if isinstance(components, Mapping) else None
    if not isinstance(schemas, Mapping) or not isinstance(schemas.get("Input"), Mapping):
        raise ValueError("its openapi_schema describes no Input")  # noqa: TRY004 - the reply is wrong
    return schemas


def _read_version(reply: Mapping[str, Any], described: Mapping[str, Any]) -> str:
    found = described.get("id")
    if reply.get("is_official") is True or not isinstance(found, str):
        return OFFICIAL
    return found if _VERSION.fullmatch(found) else OFFICIAL


def _properties(schemas: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The inputs in the order in which the model's author wrote them, those without one last."""
    properties = schemas["Input"].get("properties") or {}
    pairs = [(name, value) for name, value in properties.items() if isinstance(value, Mapping)]
    yield from sorted(pairs, key=lambda pair: _order(pair[1]))


def _order(value: Mapping[str, Any]) -> float:
    order = value.get("x-order")
    return float(order) if isinstance(order, int | float) else float("inf")


def _read_input(value: Mapping[str, Any], schemas: Mapping[str, Any]) -> InputSpec:
    kind, nullable = _resolve(value, schemas)
    given: dict[str, Any] = {
        "type": kind.get("type") if kind.get("type") in _TYPES else "any",
        "nullable": nullable or bool(value.get("nullable")),
        "deprecated": bool(value.get("deprecated")),
        "default": value.get("default", kind.get("default")),
        "description": str(value.get("description") or "").strip(),
    }
    given |= {name: kind[name] for name in _LIMITS if isinstance(kind.get(name), int | float)}
    if isinstance(enum := kind.get("enum"), list):
        given["enum"] = [each for each in enum if isinstance(each, str | int | float)]
        if given["type"] == "any" and given["enum"]:
            given["type"] = "string" if isinstance(given["enum"][0], str) else "integer"
    if kind.get("format") == "password" or value.get("writeOnly") or value.get("x-cog-secret"):
        given["format"] = "password"
    elif kind.get("format") == "uri":
        given["format"] = "uri"
    if given["type"] == "array":
        items, _ = _resolve(kind.get("items") or {}, schemas)
        given["items"] = "uri" if items.get("format") == "uri" else items.get("type", "any")
    return InputSpec.model_validate(given)


def _resolve(
    value: Any, schemas: Mapping[str, Any], depth: int = 0
) -> tuple[Mapping[str, Any], bool]:
    """The schema behind references and unions, and whether null is among its members."""
    if not isinstance(value, Mapping) or depth > 8:  # noqa: PLR2004 - a reference to itself
        return {}, False
    if isinstance(reference := value.get("$ref"), str):
        target = schemas.get(reference.rpartition("/")[2])
        return _resolve(target, schemas, depth + 1)
    for union in ("allOf", "anyOf", "oneOf"):
        members = value.get(union)
        if isinstance(members, list) and members:
            kinds = [each for each in members if _type(each) != "null"]
            nullable = len(kinds) < len(members)
            inner, deeper = _resolve(kinds[0] if kinds else {}, schemas, depth + 1)
            rest = {key: part for key, part in value.items() if key != union}
            return {**inner, **rest} if union == "allOf" else {**rest, **inner}, nullable or deeper
    types = value.get("type")
    if isinstance(types, list):  # OpenAPI 3.1
        named = [each for each in types if each != "null"]
        return {**value, "type": named[0] if named else None}, len(named) < len(types)
    return value, bool(value.get("nullable"))


def _type(value: Any) -> Any:
    return value.get("type") if isinstance(value, Mapping) else None


def _read_output(value: Any, schemas: Mapping[str, Any]) -> OutputSpec:
    kind, _ = _resolve(value, schemas)
    if kind.get("type") == "string":
        if kind.get("format") == "uri":
            return OutputSpec(kind="uri")
        raise NotAPictureModelError("makes text, not pictures")
    if kind.get("type") == "array":
        items, _ = _resolve(kind.get("items") or {}, schemas)
        if items.get("type") == "string" and items.get("format") == "uri":
            return OutputSpec(kind="uris")
        if items.get("type") == "object" and (keys := _picture_keys(items, schemas)):
            return OutputSpec(kind="objects", pictures=keys)
        raise NotAPictureModelError(
            f"makes a list of {items.get('type', 'values')}, not of pictures"
        )
    if kind.get("type") == "object" and (keys := _picture_keys(kind, schemas)):
        return OutputSpec(kind="object", pictures=keys)
    raise NotAPictureModelError("makes values that are not pictures alone")


def _picture_keys(kind: Mapping[str, Any], schemas: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys of an object that hold the addresses of pictures.

    Numbers beside them, such as a seed or a score, stay in the reply that the ledger keeps.

    Raises:
        NotAPictureModelError: Something else stands beside them, which would be lost.
    """
    keys = []
    for name, value in (kind.get("properties") or {}).items():
        inner, _ = _resolve(value, schemas)
        if inner.get("type") in _NUMBERS:
            continue
        if inner.get("format") != "uri" or _NO_PICTURE_NAME.fullmatch(name):
            raise NotAPictureModelError(f"makes {name} beside pictures, which is no picture")
        keys.append(name)
    return tuple(keys)


def _refuse_other_media(reply: Mapping[str, Any], inputs: Mapping[str, InputSpec]) -> None:
    """Refuse a model whose addresses lead to other files than pictures: no schema says that."""
    if any(_is_format_choice(inputs.get(name)) for name in _FORMATS):
        return
    example = reply.get("default_example")
    shown = example.get("output") if isinstance(example, Mapping) else None
    endings = {_ending(each) for each in _strings(shown)}
    if endings & {*_KNOWN_FORMATS}:
        return
    for medium, known in _MEDIA_FILES.items():
        if endings & {*known}:
            raise NotAPictureModelError(f"makes {medium}, not pictures (by its example)")
    for medium, names in _MEDIA_INPUTS.items():
        if names & inputs.keys():
            found = ", ".join(sorted(names & inputs.keys()))
            raise NotAPictureModelError(f"makes {medium}, not pictures (it takes {found})")
    about = f"{reply.get('name') or ''}. {reply.get('description') or ''}".replace("-", " ")
    for medium, words in _OTHER_MEDIA.items():
        if words.search(about):
            raise NotAPictureModelError(
                f"makes {medium}, not pictures (by its name or description)"
            )


def _is_format_choice(spec: InputSpec | None) -> bool:
    return spec is not None and bool(_KNOWN_FORMATS & {str(each) for each in spec.enum})


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _strings(each)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _strings(each)


def _ending(url: str) -> str:
    return url.partition("?")[0].rpartition(".")[2].lower()


def _roles(inputs: Mapping[str, InputSpec]) -> dict[str, Any]:
    """What each input is for, by its name and kind."""
    roles: dict[str, Any] = {
        "seed": _first(inputs, _SEEDS, "integer"),
        "count": _first(inputs, _COUNTS, "integer"),
        "format": next((each for each in _FORMATS if _is_format_choice(inputs.get(each))), None),
        "pictures": {
            name: most for name, spec in inputs.items() if (most := _most_pictures(name, spec))
        },
        "weights": [
            name
            for name, spec in inputs.items()
            if spec.type in ("string", "array") and _WEIGHTS.fullmatch(name)
        ],
    }
    if "aspect_ratio" in inputs:
        roles["aspect_ratio"] = "aspect_ratio"
    elif not any(name in inputs for name in _SHAPES):
        sides = {"width", "height"}
        if all(name in inputs and inputs[name].type == "integer" for name in sides):
            roles |= {name: name for name in sorted(sides)}
    return {name: role for name, role in roles.items() if role}


def _first(inputs: Mapping[str, InputSpec], names: tuple[str, ...], kind: str) -> str | None:
    return next((name for name in names if name in inputs and inputs[name].type == kind), None)


def _most_pictures(name: str, spec: InputSpec) -> int:
    """How many pictures an input takes; 0 where it takes none."""
    if not spec.is_address or _NO_PICTURE_NAME.fullmatch(name):
        return 0
    # Of a model that makes pictures, an address is one where nothing says otherwise.
    is_told = re.search(r"(?i)\b(?:image|picture|photo)", f"{name} {spec.description}")
    if not is_told and _NO_PICTURE.search(spec.description):
        return 0
    if spec.type != "array":
        return 1
    told = _MOST_PICTURES.search(spec.description)
    return int(told[1]) if told else _LIST_OF_PICTURES


def _read_price(value: Any) -> Price:
    """The price that a saved reply names beside the provider's own fields (``x-price``)."""
    if not isinstance(value, Mapping):
        return Price()
    unit, usd = str(value.get("unit", "")), value.get("usd")
    if unit == "output image" and isinstance(usd, int | float):
        return Price(usd_per_image=usd)
    if unit.startswith("run") and isinstance(usd, int | float):
        return Price(usd_per_prediction=usd)
    megapixels = {
        "usd_per_prediction": value.get("usd_run"),
        "usd_per_input_megapixel": value.get("usd_input_mp"),
        "usd_per_output_megapixel": value.get("usd_output_mp"),
    }
    if any(megapixels.values()):
        return Price(**megapixels)
    by = {key.removeprefix("usd_"): part for key, part in value.items() if key.startswith("usd_")}
    if unit == "output image by resolution" and by:
        return Price.model_validate({"usd_per_image_by": {"input": "resolution", "usd": by}})
    return Price()
