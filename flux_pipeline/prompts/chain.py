"""Chains: prompts that are made once for each picture of another prompt set.

A picture that is not made yet is planned: it has a checksum of its own and no address, so that a
plan can count what will follow from it, and a request that names it is never sent.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from flux_pipeline.iteration import batched
from flux_pipeline.models import Model
from flux_pipeline.prompts.names import NamePart
from flux_pipeline.request import InputPicture, Request, Source

COLUMNS = ("image", "prompt", "name", "take", "seed", "width", "height")
"""The placeholders that a source picture fills in, beside the inputs that it was made with."""
_AT_ONCE = 500


class PictureLookup(Protocol):
    """Finds the pictures that requests have made."""

    def find(self, requests: Sequence[Request]) -> Sequence[Sequence[InputPicture]]:
        """The pictures of each request in the order of its outputs.

        Planned ones (``plan_picture``) where they are not made yet; none for a request that has
        ended without a picture.
        """
        ...


class PlannedPictures:
    """Takes every picture for not made yet: for checks and counts that need no ledger."""

    def find(self, requests: Sequence[Request]) -> Sequence[Sequence[InputPicture]]:
        """See ``PictureLookup.find``."""
        return [
            [plan_picture(request, index) for index in range(request.outputs)]
            for request in requests
        ]


def plan_picture(request: Request, index: int) -> InputPicture:
    """The stand-in for a picture that is not made yet; its address is empty."""
    digest = hashlib.sha256(f"planned:{request.request_sha256}:{index}".encode()).hexdigest()
    return InputPicture(
        sha256=digest,
        uri="",
        bytes=0,
        content_type="",
        width=request.width,
        height=request.height,
        request_sha256=request.request_sha256,
    )


def is_planned(picture: InputPicture) -> bool:
    """Whether a picture is not made yet."""
    return not picture.uri


@dataclass(frozen=True, slots=True)
class Each:
    """What a prompt is made for: the pictures of another set, or those of some of its prompts."""

    prompt_set: str
    prompts: tuple[str, ...] = ()
    """Names or keys of prompts; empty: all of them."""

    def includes(self, source: Source) -> bool:
        """Whether the pictures of a prompt are meant, by its name or its key in the file."""
        if not self.prompts:
            return True
        names = {source.prompt_name, source.stable_name or source.prompt_name}
        return any(
            name == each or name.startswith(f"{each}-") for each in self.prompts for name in names
        )


class SourcePicture(NamedTuple):
    """One picture of another set: where it comes from, and its bytes' address."""

    request: Request
    output: int
    """0-based."""
    picture: InputPicture

    @property
    def name_parts(self) -> tuple[NamePart, ...]:
        """What it adds to a prompt's name; the first take and output add nothing but the name."""
        source, number = self.request.source, self.output + 1
        counted = [f"take-{source.take}"] if source.take > 1 else []
        counted += [f"image-{number}"] if number > 1 else []
        name = NamePart(source.prompt_name, source.stable_name or source.prompt_name)
        return (name, *(NamePart(each, each) for each in counted))

    def values(self) -> dict[str, str]:
        """The placeholders' values; empty where nothing is known."""
        request, picture = self.request, self.picture
        inputs = {**request.defaults, **request.input}
        own = {name: str(value) for name, value in inputs.items() if isinstance(value, str | int)}
        return {
            **own,
            "image": picture.reference,
            "prompt": str(request.input.get("prompt", "")),
            "name": request.source.prompt_name,
            "take": str(request.source.take),
            "seed": "" if request.seed is None else str(request.seed),
            "width": str(picture.width or ""),
            "height": str(picture.height or ""),
        }


class SourceSet(Protocol):
    """The part of a prompt set that a chain needs of the set before it."""

    @property
    def models(self) -> Sequence[Model]:
        """The models that its pictures are made with."""
        ...

    def requests(
        self,
        partitions: Collection[str] | None = None,
        *,
        pictures: PictureLookup | None = None,
    ) -> Iterator[Request]:
        """See ``PromptSet.requests``."""
        ...


@dataclass(frozen=True, slots=True)
class Sources:
    """The pictures that one expansion of a set is made for."""

    sets: Mapping[str, SourceSet] = field(default_factory=dict)
    partitions: Collection[str] | None = None
    """Of the sets before; None: all of them."""
    lookup: PictureLookup = field(default_factory=PlannedPictures)

    def pictures(self, each: Each) -> Iterator[SourcePicture]:
        """The pictures that a prompt is made for, streamed in the order of their set."""
        source = self.sets.get(each.prompt_set)
        if source is None:
            return
        found = source.requests(self.partitions, pictures=self.lookup)
        yield from self.pictures_of(found, each)

    def pictures_of(self, requests: Iterable[Request], each: Each) -> Iterator[SourcePicture]:
        """The pictures of these requests that a prompt is made for."""
        wanted = (one for one in requests if each.includes(one.source))
        for batch in batched(wanted, _AT_ONCE):
            for request, pictures in zip(batch, self.lookup.find(batch), strict=True):
                for index, picture in enumerate(pictures):
                    yield SourcePicture(request, index, picture)
