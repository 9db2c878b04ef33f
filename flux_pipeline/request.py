"""A request to the provider: it asks for one prediction, and has one fingerprint.

``request_sha256`` names the *cause* of an image. It covers the model version and the input with
defaults filled in, secrets redacted and parameters without effect dropped, and nothing of the run,
the time, the endpoint or the key: the same request has the same fingerprint everywhere, which is
what makes "unchanged is free" and "paid once" decidable.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

import rfc8785

_LARGEST_WHOLE = 2**53 - 1
_SMALLEST_DECIMAL, _LARGEST_DECIMAL = 1e-4, 1e16
"""Between them Python writes a float without an exponent, as ECMAScript does."""
_ENCODER = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
)
JsonValue: TypeAlias = "str | int | float | bool | list[JsonValue] | dict[str, JsonValue] | None"


OFFICIAL = "official"
"""The version of a model that the provider keeps itself, and changes without saying so."""


def fingerprint(
    version: str,
    effective_input: Mapping[str, JsonValue],
    *,
    take: int = 1,
    day: str = "",
) -> str:
    """SHA-256, as 64 hex digits, of the RFC 8785 form of ``{version, input}``.

    ``take`` and ``day`` count only where they are given: a model without a seed makes another
    picture of the same input each time, and nothing else tells two takes apart.

    RFC 8785 and not ``json.dumps(sort_keys=True)``: they differ on 1.0, 1e-07 and keys beyond the
    basic plane.
    """
    cause: dict[str, Any] = {"version": version, "input": dict(effective_input)}
    if take > 1:
        cause["take"] = take
    if day:
        cause["day"] = day
    return hashlib.sha256(canonical_json(cause)).hexdigest()


class Fingerprints:
    """The fingerprints of inputs that differ in a few values: each as ``fingerprint`` gives it.

    The canonical form of the others is made once, in pieces between which those values are put.
    """

    __slots__ = ("_end", "_varying", "_version")

    def __init__(
        self, version: str, effective_input: Mapping[str, JsonValue], varying: Collection[str]
    ) -> None:
        """``varying`` are the names of those values; the input has each of them."""
        self._varying: list[tuple[str, bytes]] = []
        """Each with what stands before its value."""
        run: dict[str, JsonValue] = {}
        for name in sorted(effective_input, key=_in_order):
            if name in varying:
                before = canonical_json({**run, name: ""})[1:-3]
                self._varying.append((name, b"," + before if self._varying else before))
                run = {}
            else:
                run[name] = effective_input[name]
        rest = canonical_json(run)[1:-1] if run else b""
        self._end = (b"," if rest and self._varying else b"") + rest + b"}"
        self._version = _version_at_end(version)

    def find(self, values: Mapping[str, JsonValue], *, take: int = 1, day: str = "") -> str:
        """The fingerprint of the input with these values, one for each varying name."""
        parts = [b'{"day":', _canonical(day), b","] if day else [b"{"]
        parts.append(b'"input":{')
        for name, before in self._varying:
            parts += before, _canonical(values[name])
        parts.append(self._end)
        if take > 1:
            parts.append(b',"take":%d' % take)
        parts.append(self._version)
        return hashlib.sha256(b"".join(parts)).hexdigest()


@lru_cache(maxsize=1_000)
def _version_at_end(version: str) -> bytes:
    return b"," + canonical_json({"version": version})[1:]


def _in_order(name: str) -> bytes:
    """Sorts names as RFC 8785 does, by the units of UTF-16."""
    return name.encode("utf-16-be", "surrogatepass")


def _canonical(value: JsonValue) -> bytes:
    """The RFC 8785 form of any value."""
    if type(value) is str:
        return _ENCODER.encode(value).encode()
    if type(value) is int and -_LARGEST_WHOLE <= value <= _LARGEST_WHOLE:
        return b"%d" % value
    return canonical_json({"": value})[len(b'{"":') : -1]


def canonical_json(value: Mapping[str, Any]) -> bytes:
    """The RFC 8785 form of an object: that of the library, in a tenth of its time.

    Python's own encoder writes the same bytes where every name is ASCII and every number is one
    that both write alike; the library takes the rest.
    """
    try:
        return _ENCODER.encode(_as_both_write(value)).encode()
    except _OtherwiseWrittenError:
        return rfc8785.dumps(dict(value))


class _OtherwiseWrittenError(Exception):
    """A value of which Python's encoder and RFC 8785 have different forms."""


def _as_both_write(value: Any) -> Any:
    """The value such that Python's encoder writes its RFC 8785 form."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is int:
        if -_LARGEST_WHOLE <= value <= _LARGEST_WHOLE:
            return value
    elif kind is float:
        if value.is_integer() and abs(value) <= _LARGEST_WHOLE:
            return int(value)
        if _SMALLEST_DECIMAL <= abs(value) < _LARGEST_DECIMAL:
            return value
    elif kind is list:
        return [_as_both_write(each) for each in value]
    elif kind is dict or isinstance(value, Mapping):
        return _object_as_both_write(value)
    raise _OtherwiseWrittenError


def _object_as_both_write(values: Mapping[Any, Any]) -> dict[str, Any]:
    plain = {}
    for name, value in values.items():
        if type(name) is not str or not name.isascii():
            raise _OtherwiseWrittenError
        # Most values are texts: a call for each of them would take longer than all the rest.
        plain[name] = value if type(value) is str else _as_both_write(value)
    return plain


@dataclass(frozen=True, slots=True)
class Source:
    """Where a request comes from: the prompt, its take and partition, and the file's state."""

    prompt_set: str
    prompt_name: str
    take: int = 1
    """1-based."""
    partition: str = ""
    config_path: str = ""
    config_sha256: str = ""
    stable_name: str = ""
    """The prompt's name as the first release wrote it, of which its seeds are made; empty where it
    is ``prompt_name``. Images that were stored under it are found."""


@dataclass(frozen=True, slots=True)
class InputPicture:
    """A picture that goes into a prediction: a file of the user's, or one that was made before.

    A request's input names it ``sha256:<64 hex digits>``; the address or the bytes are put in when
    it is sent, because addresses change and the fingerprint must not.
    """

    sha256: str
    """64 hex digits, of the file's bytes."""
    uri: str
    """Where the bytes lie: a path, or the address of an object in the store."""
    bytes: int
    content_type: str
    width: int = 0
    """px; 0 where it is not known."""
    height: int = 0
    """px; 0 as ``width``."""
    request_sha256: str | None = None
    """The request that made it, where this project has made it."""

    @property
    def reference(self) -> str:
        """How a request's input names it."""
        return f"{PICTURE_PREFIX}{self.sha256}"


PICTURE_PREFIX = "sha256:"
"""Before a picture's checksum, where an input names one."""
SECRET_PREFIX = "env:"  # noqa: S105 - what stands before the name of a variable
"""Before the name of the environment variable that holds a secret input's value."""


@dataclass(frozen=True, slots=True)
class Request:
    """One prediction to be made, with all that is known before it is sent."""

    model: str
    """``owner/name``."""
    version: str
    """64 hex digits, or ``official`` where the provider alone chooses."""
    input: Mapping[str, JsonValue] = field(hash=False, repr=False)
    """The JSON object that is sent, but for pictures, which are named by their hash, and secrets,
    which are named by their environment variable (``env:NAME``)."""
    request_sha256: str
    outputs: int
    """Images asked for: at least 1, as many as the model says."""
    width: int
    """px; 0 where it is known only when the image is there."""
    height: int
    """px; 0 as ``width``."""
    image_format: str
    """``webp``, ``jpg`` or ``png``; empty where the model chooses."""
    cost_usd: float
    """Estimate from the model's price, for the whole prediction; 0 where the price is unknown."""
    source: Source
    pictures: tuple[InputPicture, ...] = field(default=(), hash=False, repr=False)
    """The pictures that the input names by their hash."""
    defaults: Mapping[str, JsonValue] = field(default_factory=dict, hash=False, repr=False)
    """What the model fills in by its contract; empty for a model whose rules are built in."""
    price: Mapping[str, Any] = field(default_factory=dict, hash=False, repr=False)
    """The model's price by its contract (``models.price``); empty for a built-in model."""
    seed_input: str = "seed"
    """The name of the input that is the seed; empty where the model takes none."""
    secret_inputs: tuple[str, ...] = ()
    """The inputs whose values name environment variables."""
    aspect_ratio: str = ""
    """Such as ``16:9``, where the shape is asked for and the size is not known; empty otherwise."""
    weights: str = field(default="", repr=False)
    """The weights that the model loads for it: the provider reloads whenever they change."""

    @property
    def seed(self) -> int | None:
        """The explicit seed, or None where the provider draws one."""
        seed = self.input.get(self.seed_input) if self.seed_input else None
        return seed if isinstance(seed, int) else None

    @property
    def is_official(self) -> bool:
        """Whether the provider alone chooses the version that runs."""
        return self.version == OFFICIAL

    @property
    def served_as(self) -> str:
        """What the create call names: ``owner/name:version``, or ``owner/name`` alone."""
        return self.model if self.is_official else f"{self.model}:{self.version}"

    def body(self) -> dict[str, JsonValue]:
        """The JSON object of the create call: the version with its model's name, and the input."""
        return {"version": self.served_as, "input": dict(self.input)}
