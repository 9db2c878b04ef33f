"""Asset specs of a prompt set: what the UI shows of its assets before anything was made."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import dagster as dg

from flux_pipeline.defs.automation import build_conditions, build_freshness
from flux_pipeline.defs.keys import SetKeys
from flux_pipeline.defs.partitions import build_partitions
from flux_pipeline.prompts import PromptSet
from flux_pipeline.text import safe_text

IMAGES_VERSION = "1"
"""The code version of images: raise it when the same reply gives other stored bytes."""
GALLERY_VERSION = "2"
"""The code version of galleries: raise it when the same images give another page."""
_MARKS = frozenset("\\`*_{}[]()#+!|~>")
"""Characters that Markdown acts upon."""
_SHOWN = 16
"""Digits of a hash in the UI, whose table cuts off longer ones; the lineage table holds all."""


def prompts_version(prompt_set: PromptSet) -> str:
    """The code version of a set's prompts: the hash of its file, so that an edit makes them stale.

    Which partitions of the images are stale then follows from the prompts' data versions.
    """
    return prompt_set.config_sha256[:16]


def published_version(prompt_set: PromptSet) -> str:
    """The code version of what a set publishes: another one when other files would be published.

    It changes with what ``choose`` and ``publish`` say and with the file of picks, and with nothing
    that images are made of.
    """
    choice, picks = prompt_set.choice, b""
    if choice.path is not None:
        with suppress(OSError):  # not there: nothing is picked yet; the step says what else it is
            picks = choice.path.read_bytes()
    variants = [spec.digest() for spec in prompt_set.publish.variants] if prompt_set.publish else []
    said = [choice.kind, choice.undecided, repr(prompt_set.publish), *variants]
    return hashlib.sha256("\n".join(said).encode() + picks).hexdigest()[:_SHOWN]


def build_specs(
    prompt_set: PromptSet, partitions: dg.PartitionsDefinition[str] | None = None
) -> Sequence[dg.AssetSpec]:
    """Build the specs of prompts, images and gallery.

    ``partitions`` are those of the set, where they were built before: Dagster checks each key.
    """
    keys, conditions = SetKeys(prompt_set.name), build_conditions(prompt_set)
    partitions = partitions or build_partitions(prompt_set)
    freshness = build_freshness(prompt_set)
    shared: dict[str, Any] = {
        "group_name": prompt_set.name,
        "owners": list(prompt_set.owners),
        "tags": dict(prompt_set.tags),
        "skippable": True,  # every event is emitted for its own partition
    }
    about = _sentence(_markdown_text(prompt_set.description))
    return [
        dg.AssetSpec(
            keys.prompts,
            description=f"{about}The requests that this prompt set makes. A partition's data "
            "version is the hash of its requests.",
            metadata=_prompts_metadata(prompt_set),
            kinds={"yaml"},
            code_version=prompts_version(prompt_set),
            partitions_def=partitions,
            automation_condition=conditions.prompts,
            **shared,
        ),
        dg.AssetSpec(
            keys.images,
            deps=[keys.prompts, *_sources(prompt_set)],
            description=f"{about}The images. What was made before is never paid for again, and "
            "what was begun is resumed.",
            metadata=_code_references(prompt_set, "model"),
            kinds={"image"},
            code_version=IMAGES_VERSION,
            partitions_def=partitions,
            automation_condition=conditions.images,
            freshness_policy=freshness,
            **shared,
        ).with_io_manager_key(keys.io_manager),
        dg.AssetSpec(
            keys.gallery,
            deps=[keys.images],
            description=f"{about}All images and those not made, on one page with their lineage.",
            metadata=_code_references(prompt_set, "description"),
            kinds={"html"},
            code_version=GALLERY_VERSION,
            automation_condition=conditions.gallery,
            freshness_policy=freshness,
            **shared,
        ),
    ]


def build_published_spec(prompt_set: PromptSet) -> dg.AssetSpec:
    """Build the spec of what a set publishes."""
    keys, publication = SetKeys(prompt_set.name), prompt_set.publish
    names = [spec.name for spec in publication.variants] if publication else []
    to = publication.to if publication else ""
    return dg.AssetSpec(
        keys.published,
        deps=[keys.images],
        description="The chosen images as files for a web site, with an index. What is unchanged"
        " is neither read nor written.",
        metadata={
            **_code_references(prompt_set, "publish"),
            "flux/choose": prompt_set.choice.kind,
            "flux/variants": ", ".join(names),
            **({"flux/to": safe_text(to)} if to else {}),
        },
        kinds={"image"},
        code_version=published_version(prompt_set),
        partitions_def=build_partitions(prompt_set),
        automation_condition=build_conditions(prompt_set).published,
        freshness_policy=build_freshness(prompt_set),
        group_name=prompt_set.name,
        owners=list(prompt_set.owners),
        tags=dict(prompt_set.tags),
        skippable=True,
    )


def _sources(prompt_set: PromptSet) -> Iterator[dg.AssetDep]:
    """The images that this set's are made of: the same partition of each, or all of them."""
    for source in prompt_set.sources.values():
        is_followed = source is prompt_set.follows
        mapping = dg.IdentityPartitionMapping() if is_followed else dg.AllPartitionMapping()
        yield dg.AssetDep(SetKeys(source.name).images, partition_mapping=mapping)


def _prompts_metadata(prompt_set: PromptSet) -> dict[str, Any]:
    shown: dict[str, Any] = {
        **_code_references(prompt_set, "prompts"),
        "flux/model": prompt_set.model.name,
        "flux/version": prompt_set.version[:_SHOWN],
        "flux/config_sha256": prompt_set.config_sha256[:_SHOWN],
    }
    if prompt_set.warnings:
        warnings = [safe_text(str(warning)) for warning in prompt_set.warnings]
        shown["flux/warnings"] = dg.MetadataValue.json(warnings)
    return shown


def _code_references(prompt_set: PromptSet, key: str) -> dict[str, Any]:
    """Metadata that links to the line of a key in the file; nothing where there is no file."""
    path = Path(prompt_set.path)
    if not prompt_set.path or not path.is_file():
        return {}
    reference = dg.LocalFileCodeReference(
        file_path=str(path.resolve()),
        line_number=max(prompt_set.expansion.line(key), 1),
        label=path.name,
    )
    return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[reference])}


def _sentence(text: str) -> str:
    """A paragraph with a full stop at its end: the UI's lists put the next right after it."""
    return f"{text}{'.' if text[-1].isalnum() else ''}\n\n" if text else ""


def _markdown_text(text: str) -> str:
    """Text escaped for a field that the UI reads as Markdown."""
    escaped = "".join(f"\\{char}" if char in _MARKS else char for char in safe_text(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;")
