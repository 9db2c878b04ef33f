"""The models that the emulator answers for: contract files, read as data, and found by name.

The shipped contracts are known, and those of one more folder, which come first. A file is read when
its model is first asked for, and again when it has changed.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flux_pipeline.emulator.inputs import SIZES

OFFICIAL = "official"
"""In place of a version: a model that the provider keeps itself."""
DEFAULT_MODEL = "lucataco/flux-schnell-lora"
DEFAULT_VERSION = "2a6b576af31790b470f0a8442e1e9791213fa13799cbb65a9fc1436e96389574"
SHIPPED = Path(__file__).parent.parent / "models" / "contracts"
_MODEL_LINE = re.compile(r"^model:[ ]*['\"]?([A-Za-z0-9._/-]+)", re.MULTILINE)
_VERSION_LINE = re.compile(r"^version:[ ]*['\"]?([0-9a-z]+)", re.MULTILINE)


class InputField(BaseModel):
    """One input of a model."""

    model_config = ConfigDict(frozen=True)

    type: Literal["string", "integer", "number", "boolean", "array", "object", "any"] = "any"
    items: str | None = None
    format: str | None = None
    required: bool = False
    nullable: bool = False
    deprecated: bool = False
    enum: tuple[str | int | float, ...] = ()
    minimum: int | float | None = None
    maximum: int | float | None = None
    default: Any = None
    description: str = ""


class OutputForm(BaseModel):
    """What comes out: an address, a list, an object of addresses, or a list of objects."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["uri", "uris", "object", "objects"]
    pictures: tuple[str, ...] = ()
    """Keys of the object."""


class Contract(BaseModel):
    """What one version of a model takes, gives and costs; further keys of a file are ignored."""

    model_config = ConfigDict(frozen=True)

    model: str
    version: str
    """64 hex digits, or ``official``."""
    description: str = ""
    price: Mapping[str, Any] = Field(default_factory=dict)
    output: OutputForm
    seed: str | None = None
    count: str | None = None
    format: str | None = None
    image_format: Literal["webp", "jpg", "png"] | None = None
    width: str | None = None
    height: str | None = None
    aspect_ratio: str | None = None
    pictures: Mapping[str, int] = Field(default_factory=dict)
    inputs: Mapping[str, InputField]

    @property
    def is_official(self) -> bool:
        """Whether predictions name the model instead of a version."""
        return self.version == OFFICIAL

    @property
    def version_id(self) -> str:
        """64 hex digits: of an official model they change with its inputs."""
        if not self.is_official:
            return self.version
        facts = self.model_dump(mode="json", include={"model", "inputs", "output"})
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def drifted(self, defaults: Mapping[str, Any]) -> "Contract":
        """The contract with other defaults of some inputs, under the same version."""
        changed = {
            name: each.model_copy(update={"default": defaults[name]})
            for name, each in self.inputs.items()
            if name in defaults
        }
        return self.model_copy(update={"inputs": {**self.inputs, **changed}}) if changed else self


def load_contract(path: Path) -> Contract:
    """The contract of one file.

    Raises:
        ValueError: It is no contract; the message names the file.
    """
    try:
        value = yaml.load(path.read_bytes(), _Loader)  # noqa: S506 - makes plain values alone
        return Contract.model_validate(value)
    except OSError as error:
        raise ValueError(f"{path}: can't be read: {error.strerror}") from error
    except (yaml.YAMLError, ValidationError) as error:
        raise ValueError(f"{path}: no contract of a model: {error}") from error


@dataclass
class Catalog:
    """The contracts of a folder (None: of none) before the shipped ones."""

    folder: Path | None = None
    _own: list["_Entry"] = field(default_factory=list, init=False)

    def check(self) -> None:
        """Read all of the folder's files.

        Raises:
            ValueError: The folder is missing, or a file is no contract.
        """
        if self.folder is not None and not self.folder.is_dir():
            raise ValueError(f"{self.folder}: no such folder of contracts")
        self._own = list(_entries(self.folder))
        for entry in self._own:
            load_contract(entry.path)

    def versions(self, model: str) -> tuple[Contract, ...]:
        """The known contracts of a model (``owner/name``); empty where there is none."""
        if model == DEFAULT_MODEL:
            return (default_contract(),)
        own = self._found_in_folder(lambda entry: entry.model == model)
        return own or tuple(each.contract() for each in _shipped() if each.model == model)

    def find_version(self, version: str) -> Contract | None:
        """The contract of a version's 64 hex digits, or None; None for the default model too."""
        if version == DEFAULT_VERSION:
            return None
        own = self._found_in_folder(lambda entry: entry.version == version)
        entry = _shipped_versions().get(version)
        if own:
            return own[0]
        return None if entry is None else entry.contract()

    def _found_in_folder(self, wanted: Callable[["_Entry"], bool]) -> tuple[Contract, ...]:
        """Files may come while the emulator runs, so one that is not known is looked for again."""
        if self.folder is None:
            return ()
        if not any(wanted(entry) and entry.path.is_file() for entry in self._own):
            self._own = list(_entries(self.folder))
        return tuple(entry.contract() for entry in self._own if wanted(entry))


@lru_cache(maxsize=16)
def catalog_of(folder: str) -> Catalog:
    """The catalog of a folder, or of the shipped contracts alone where it is empty."""
    return Catalog(Path(folder) if folder else None)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A contract's file, by the two lines that name it."""

    path: Path
    model: str
    version: str

    def contract(self) -> Contract:
        return _load(self.path, self.path.stat().st_mtime_ns)


def _entries(folder: Path | None) -> Iterator[_Entry]:
    for path in sorted(folder.rglob("*.yaml")) if folder is not None else ():
        text = path.read_text("utf-8", "replace")
        model, version = _MODEL_LINE.search(text), _VERSION_LINE.search(text)
        if model and version:
            yield _Entry(path, model[1], version[1])


@lru_cache(maxsize=256)
def _load(path: Path, changed: int) -> Contract:
    del changed  # a part of the cache's key
    return load_contract(path)


@lru_cache(maxsize=1)
def _shipped() -> tuple[_Entry, ...]:
    return tuple(_entries(SHIPPED))


@lru_cache(maxsize=1)
def _shipped_versions() -> Mapping[str, _Entry]:
    return {entry.version: entry for entry in _shipped() if entry.version != OFFICIAL}


@lru_cache(maxsize=1)
def default_contract() -> Contract:
    """The contract of lucataco/flux-schnell-lora, whose inputs are read by ``inputs.py``."""
    text, number, whole = {"type": "string"}, {"type": "number"}, {"type": "integer"}
    share = {**number, "minimum": 0, "maximum": 1, "default": 0.8}
    inputs: dict[str, Any] = {
        "prompt": {**text, "required": True},
        "aspect_ratio": {**text, "enum": tuple(SIZES), "default": "1:1"},
        "image": {**text, "format": "uri"},
        "prompt_strength": share,
        "num_outputs": {**whole, "minimum": 1, "maximum": 4, "default": 1},
        "num_inference_steps": {**whole, "minimum": 1, "maximum": 12, "default": 4},
        "seed": whole,
        "output_format": {**text, "enum": ("webp", "jpg", "png"), "default": "webp"},
        "output_quality": {**whole, "minimum": 0, "maximum": 100, "default": 80},
        "disable_safety_checker": {"type": "boolean", "default": False},
        "hf_lora": text,
        "lora_scale": share,
    }
    return Contract.model_validate(
        {
            "model": DEFAULT_MODEL,
            "version": DEFAULT_VERSION,
            "description": "Text to image in a few steps, with LoRA weights.",
            "output": {"kind": "uris"},
            "seed": "seed",
            "count": "num_outputs",
            "format": "output_format",
            "aspect_ratio": "aspect_ratio",
            "inputs": inputs,
        }
    )


class _Loader(yaml.SafeLoader):
    """Reads numbers, true, false and null alone as such; 16:9, yes and dates stay text."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 - PyYAML's own form


for _tag, _pattern, _first in (
    ("bool", r"(?:true|false)", "tf"),
    ("int", r"-?(?:0|[1-9][0-9]*)", "-0123456789"),
    ("float", r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", "-0123456789"),
    ("null", r"(?:null|)", ["n", ""]),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^{_pattern}$"), list(_first)
    )
