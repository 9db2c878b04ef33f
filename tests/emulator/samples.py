"""Contracts and pictures for tests of models that are not shipped."""

import io
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

UPSCALER = (
    "nightmareai/real-esrgan:b3ef194191d13140337468c916c2c5b96dd0cb06dffc032a022a31807f6a5ea8"
)
CUTTER = "lucataco/remove-bg:95fcc2a26d3899cd6c2691c900465aaeff466285a65c14638cc5f36f34befaf1"
EDITOR = "black-forest-labs/flux-kontext-pro"
DRAWER = "black-forest-labs/flux-schnell"
WITHOUT_SEED = "google/nano-banana"
LAYERS_VERSION = "7" * 64
LAYERS: dict[str, Any] = {
    "model": "somebody/layers",
    "version": LAYERS_VERSION,
    "description": "Makes layers.",
    "price": {"usd_per_prediction": 0.5},
    "output": {"kind": "object", "pictures": ["front", "back"]},
    "format": "output_format",
    "aspect_ratio": "ratio",
    "inputs": {
        "prompt": {"type": "string", "required": True},
        "ratio": {"type": "string", "enum": ["1:1", "16:9"], "default": "16:9"},
        "strength": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.5},
        "output_format": {"type": "string", "enum": ["jpeg", "png"], "default": "jpeg"},
        "words": {"type": "array", "items": "string"},
        "size": {"type": "integer", "enum": [1, 2]},
        "token": {"type": "string", "format": "password"},
    },
}


def picture(size: tuple[int, int] = (48, 32), colour: str = "teal", kind: str = "PNG") -> bytes:
    """A plain picture's file."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, kind)
    return buffer.getvalue()


def opened(file: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(file))
    image.load()
    return image


def write_contract(folder: Path, **changes: Any) -> Path:
    """The folder, with the contract of LAYERS in it, changed so."""
    contract = {**LAYERS, **changes}
    file = folder / f"{contract['model']}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(contract, sort_keys=False))
    return folder
