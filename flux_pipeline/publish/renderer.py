"""Fetches a chosen picture from the store and renders its variants."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from flux_pipeline.errors import ImageError, StoreError
from flux_pipeline.images.signing import ManifestSigner
from flux_pipeline.images.variants import RenderedVariant, check_specs, render_variants
from flux_pipeline.produce.ingest import sidecar_key
from flux_pipeline.publish.selection import ChosenImage
from flux_pipeline.store.base import Store
from flux_pipeline.variant import VariantSpec


@dataclass(frozen=True, slots=True)
class Rendered:
    """Variants of a picture, and how it looks until it is loaded."""

    variants: tuple[RenderedVariant, ...] = field(repr=False)
    color: str
    """``#rrggbb``"""
    placeholder: str = field(repr=False)
    """A data URI."""

    def without_data(self) -> "Rendered":
        """The looks alone."""
        return Rendered((), self.color, self.placeholder)


@dataclass(frozen=True, slots=True)
class Renderer:
    """Makes the files of one set's pictures. Thread-safe."""

    store: Store
    """Where the pictures lie."""
    variants: Sequence[VariantSpec]
    signer: ManifestSigner | None = None
    """Signs each file as an edit of the picture; None: files are labelled alone."""

    @property
    def keys(self) -> list[str]:
        """For each variant what makes its files, but for the picture: another one, other bytes."""
        signed = "" if self.signer is None else "-signed"
        return [f"{spec.digest()}{signed}" for spec in self.variants]

    def check(self) -> None:
        """Pass where this machine can render the variants. Raises ImageError."""
        check_specs(self.variants)

    def render(self, image: ChosenImage, numbers: Sequence[int]) -> Rendered:
        """Render some variants of a picture, which is decoded once.

        Raises:
            StoreError: It can't be read, or other bytes lie there than were stored.
            ImageError, SigningError: As ``render_variants``.
        """
        key = image.source_uri.removeprefix(f"{self.store.uri}/")
        if key == image.source_uri:
            raise StoreError(f"{image.source_uri}: lies in another store than {self.store.uri}")
        body = self.store.get(key)
        if image.file_sha256 and hashlib.sha256(body).hexdigest() != image.file_sha256:
            raise ImageError(f"{image.source_uri}: other bytes than were stored lie there")
        rendering = render_variants(
            body,
            [self.variants[number] for number in numbers],
            picture=image.source_uri,
            sidecar=self.store.get(sidecar_key(key)) if image.has_sidecar else None,
            signer=self.signer,
        )
        looks = rendering.appearance
        return Rendered(rendering.variants, looks.colour, looks.placeholder)
