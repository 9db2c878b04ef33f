"""lucataco/flux-schnell-lora: FLUX.1 [schnell] with LoRA weights."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from flux_pipeline.models.base import (
    Number,
    Switch,
    Text,
    TypedInput,
    TypedModel,
    WholeNumber,
)
from flux_pipeline.models.lora import checked_lora, checked_url, has_foreign_letters, lora_warnings
from flux_pipeline.models.price import Price
from flux_pipeline.models.signed_url import uncounted_file
from flux_pipeline.request import PICTURE_PREFIX
from flux_pipeline.text import quoted

SIZES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
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
)
"""Width and height in px of each aspect ratio."""


def _checked_image(value: str) -> str:
    if not value.startswith(PICTURE_PREFIX):
        checked_url(value)
    return value


class FluxSchnellLoraInput(TypedInput):
    """The input of one prediction; fields in the order of the API's own page."""

    address_fields: ClassVar[frozenset[str]] = frozenset({"hf_lora", "image"})

    hf_lora: Annotated[Text, AfterValidator(checked_lora)] | None = Field(
        default=None,
        description="LoRA weights: a Hugging Face owner/name, or the https address of a "
        ".safetensors file.",
    )
    lora_scale: Number = Field(
        default=0.8, ge=0, le=1, description="Strength of the LoRA. No effect without hf_lora."
    )
    num_outputs: WholeNumber = Field(
        default=1, ge=1, le=4, description="Images in one prediction, each of them paid."
    )
    aspect_ratio: Literal[
        "1:1", "16:9", "21:9", "3:2", "2:3", "4:5", "5:4", "3:4", "4:3", "9:16", "9:21"
    ] = Field(default="1:1", description="Shape of the image; about one megapixel each.")
    output_format: Literal["webp", "jpg", "png"] = Field(
        default="webp", description="File format of the image."
    )
    output_quality: WholeNumber = Field(
        default=80, ge=0, le=100, description="Quality of webp and jpg. No effect on png."
    )
    prompt_strength: Number = Field(
        default=0.8,
        ge=0,
        le=1,
        description="How far the prompt may leave the image given; 1 ignores it. No effect "
        "without image.",
    )
    num_inference_steps: WholeNumber = Field(
        default=4, ge=1, le=12, description="Denoising steps; this model is made for 4."
    )
    image: Annotated[Text, AfterValidator(_checked_image)] | None = Field(
        default=None,
        description="An image to start from: an https address, or a file in this file's folder or "
        "below. The output takes its shape, so that aspect_ratio has no effect.",
    )
    disable_safety_checker: Switch = Field(
        default=False, description="Keep images that the model's own safety check would drop."
    )

    @property
    def outputs(self) -> int:
        """Number of images asked for."""
        return self.num_outputs

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in px; (0, 0) with ``image``, whose shape the output takes."""
        return (0, 0) if self.image else SIZES[self.aspect_ratio]

    @property
    def image_format(self) -> str:
        """``webp``, ``jpg`` or ``png``."""
        return self.output_format

    def without_effect(self) -> frozenset[str]:
        """Names of fields that the model ignores, given the others."""
        ignored = ["prompt_strength"] if self.image is None else ["aspect_ratio"]
        if self.hf_lora is None:
            ignored.append("lora_scale")
        if self.output_format == "png":
            ignored.append("output_quality")
        return frozenset(ignored)

    def warnings(self) -> Iterator[tuple[str, str]]:
        """Messages about URLs that are allowed but perhaps not meant."""
        if self.hf_lora is not None:
            yield from (("hf_lora", message) for message in lora_warnings(self.hf_lora))
        if self.image is not None and has_foreign_letters(self.image):
            yield "image", "the host has letters beyond a-z: make sure that it is the one you mean"
        for name in sorted(self.address_fields):
            if parameter := uncounted_file(getattr(self, name) or ""):
                message = (
                    f"the query's {quoted(parameter)} is taken for a secret and doesn't count in "
                    "the fingerprint: with one seed, two files that differ in it alone are one "
                    "request; put the file into the path, or give each a seed"
                )
                yield name, message


MODEL = TypedModel(
    name="lucataco/flux-schnell-lora",
    version="2a6b576af31790b470f0a8442e1e9791213fa13799cbb65a9fc1436e96389574",
    input_type=FluxSchnellLoraInput,
    # An estimate: the list price of an image of FLUX.1 [schnell]. The model itself is billed by the
    # second of GPU, and aggregators set prices of their own; the invoice decides.
    price=Price(usd_per_image=0.003),
    prompt_tokens=256,
    fields=FluxSchnellLoraInput.model_fields,
    address_fields=FluxSchnellLoraInput.address_fields,
    pictures={"image": 1},
    weights=("hf_lora",),
)
