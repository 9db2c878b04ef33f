"""The pydantic schema of a prompt set's file: every key with its type, limits and description.

Unknown keys are refused. Editors complete from the JSON Schema that is made of these classes, so a
description here is what an author reads while typing.
"""

import re
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from flux_pipeline.endpoint import find_store_mistake, has_user_query_or_fragment, is_web_url
from flux_pipeline.models.base import Number, Switch, Text, WholeNumber
from flux_pipeline.prompts.cron import checked_cron
from flux_pipeline.variant import (
    DEFAULT_SHARPEN,
    FOCUS_POINTS,
    MAX_QUALITY,
    MAX_SHARPEN,
    MAX_SIDE,
    MIN_QUALITY,
    MIN_SIDE,
)

MAX_TAKES = 1_000
MAX_SHARDS = 10_000
DEFAULT_NAME = "{name}-{variant}.{format}"
"""Of published files."""
_TAG_KEY = re.compile(r"(?:[A-Za-z0-9_.-]{1,63}/)?[A-Za-z0-9_.-]{1,63}")
_TAG_VALUE = re.compile(r"[A-Za-z0-9_.-]{0,63}")
_OWNER = re.compile(r"team:[^\s:][^\n]*|[^@\s]+@[^@\s]+\.[^@\s.]+")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_VERSION = re.compile(r"[0-9a-f]{64}")


# The validators stand before the schema, because its annotations name them.


def _plain_text(value: Any) -> Any:
    # A caller's mapping may hold numbers where a file always gives text.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


def _checked_owner(value: str) -> str:
    if not _OWNER.fullmatch(value):
        raise ValueError("an owner is an email address or team:<name>")
    return value


def _checked_tag_key(value: str) -> str:
    if not _TAG_KEY.fullmatch(value) or value.startswith("dagster/"):
        raise ValueError(
            "a tag's key is made of letters, digits, _, - and ., at most 63 of them, with at "
            "most one / behind a namespace other than dagster"
        )
    return value


def _checked_tag_value(value: str) -> str:
    if not _TAG_VALUE.fullmatch(value):
        raise ValueError("a tag's value is made of letters, digits, _, - and ., at most 63 of them")
    return value


def _checked_timezone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            "is no time zone; write it as Asia/Shanghai, Europe/Berlin or UTC"
        ) from error
    return value


def parse_day(value: str) -> date:
    """The date of ``YYYY-MM-DD``.

    Raises:
        ValueError: Another form, or no day of the calendar.
    """
    if not _DAY.fullmatch(value):
        raise ValueError("a day is written YYYY-MM-DD")
    try:
        return date.fromisoformat(value)
    except ValueError as error:
        raise ValueError("is no day of the calendar; a day is written YYYY-MM-DD") from error


def _day_from_text(value: Any) -> Any:
    return parse_day(value) if isinstance(value, str) else value


def _checked_target(value: str) -> str:
    if mistake := "" if value == "" else find_store_mistake(value):
        raise ValueError(mistake)
    if "{" in value or "}" in value:
        raise ValueError("has no placeholders: put them into publish.name")
    return value


def _checked_url(value: str) -> str:
    if value and (not is_web_url(value) or has_user_query_or_fragment(value)):
        raise ValueError(
            "is no address such as https://cdn.example.com/pictures, without user or ?"
        )
    return value


def _checked_header(value: str) -> str:
    if not value.strip() or not value.isascii() or not value.isprintable():
        raise ValueError("is no value of a header: letters, digits and signs of ASCII, on one line")
    return value


def _focus_from_text(value: Any) -> Any:
    if isinstance(value, str):
        return value
    try:
        across, down = (float(str(part)) for part in value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "must be a place such as top, or two fractions such as [0.5, 0.2]"
        ) from error
    return across, down


def _sharpen_from_text(value: Any) -> Any:
    if value in (True, False, "true", "True", "TRUE", "false", "False", "FALSE"):
        return DEFAULT_SHARPEN if str(value).lower() == "true" else 0.0
    return value


PlainText: TypeAlias = Annotated[Text, BeforeValidator(_plain_text)]
"""Text, also where a caller's mapping gives a number."""
Timezone: TypeAlias = Annotated[Text, AfterValidator(_checked_timezone)]


class _StrictModel(BaseModel):
    """Frozen; an unknown key is an error; errors print no input."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class _PartitionsBase(_StrictModel):
    """The keys that all kinds of partitions have."""

    per_run: WholeNumber | None = Field(
        default=None,
        ge=1,
        description="How many partitions one run takes. What asks for more is cut into several"
        " runs, which several workers share. Left out: 100 shards; any number of prompts or days.",
    )


class ByPrompt(_PartitionsBase):
    """A partition for every prompt, named after it; up to 1,000."""

    by: Literal["prompt"] = Field(description="A partition for every prompt.")


class ByShard(_PartitionsBase):
    """A fixed number of partitions, filled by hash of the name: a new prompt moves no other."""

    by: Literal["shard"] = Field(description="A fixed number of partitions, filled by hash.")
    count: WholeNumber = Field(
        ge=1,
        le=MAX_SHARDS,
        description="How many. Some hundred images a shard are a good size. Changing it moves "
        "prompts to other shards, and pays for none of them again.",
    )


class ByDay(_PartitionsBase):
    """A partition for every day: the same prompts with new seeds, and ``{date}`` in them."""

    by: Literal["day"] = Field(description="A partition for every day, with seeds of its own.")
    start: Annotated[date, BeforeValidator(_day_from_text), Field(strict=True)] = Field(
        description="The first day, YYYY-MM-DD."
    )
    timezone: Timezone = Field(default="UTC", description="Whose midnight ends a day.")


Partitions: TypeAlias = Annotated[ByPrompt | ByShard | ByDay, Field(discriminator="by")]


class Schedule(_StrictModel):
    """When all partitions are run; images that exist already cost nothing."""

    cron: Annotated[Text, AfterValidator(checked_cron)] = Field(
        description='Five fields (minute hour day month weekday), such as "0 6 * * *".'
    )
    timezone: Timezone = Field(default="UTC", description="The time zone that cron is meant in.")


class Budget(_StrictModel):
    """Limits of spending; a run stops before the first request that would exceed one."""

    usd_per_run: Number | None = Field(default=None, ge=0, description="USD in one run.")
    usd_per_month: Number | None = Field(
        default=None, ge=0, description="USD in one calendar month (UTC), over all runs."
    )


class EachSchema(_StrictModel):
    """The pictures that a prompt is made for."""

    set: Text = Field(description="The prompt set whose pictures are meant.")
    prompts: list[PlainText] = Field(
        default_factory=list,
        description="Names of its prompts, if only their pictures are meant.",
    )


def _each_from_text(value: Any) -> Any:
    return {"set": value} if isinstance(value, str) else value


class PromptSchema(_StrictModel):
    """The keys of one prompt, beside the model's inputs."""

    prompt: PlainText | None = Field(
        default=None,
        description="The text, with {placeholders} for matrix variables, table columns and, with "
        "partitions by day, {date}. A brace is written {{ or }}.",
    )
    matrix: dict[str, Annotated[list[PlainText], Field(min_length=1)]] = Field(
        default_factory=dict,
        description="Variables and their values: a prompt for every combination.",
    )
    takes: WholeNumber = Field(
        default=1, ge=1, le=MAX_TAKES, description="Predictions of each prompt, each with a seed."
    )
    each: Annotated[
        EachSchema | None,
        BeforeValidator(_each_from_text, json_schema_input_type=EachSchema | str | None),
    ] = Field(
        default=None,
        description="Another prompt set, or a mapping of set and prompts: a prompt for each of its "
        "pictures, with {image}, {prompt}, {name}, {take}, {seed}, {width}, {height} and the inputs"
        " that it was made with as placeholders.",
    )
    table: Text | None = Field(
        default=None,
        description="A csv, tsv, txt, jsonl, json or parquet file in this file's folder or below: "
        "a prompt for every row, its columns as {placeholders}.",
    )
    key: Text | None = Field(
        default=None,
        description="The column that names a row. Without it rows are numbered, and a row put in "
        "between renames, and pays for, all that follow.",
    )
    blank: Literal["error", "skip", "empty"] = Field(
        default="error",
        description="What a blank cell is that a placeholder needs: error refuses the set, skip "
        "leaves the row out, empty fills in nothing (and leaves out an input that is then empty).",
    )
    bad_rows: Literal["error", "skip"] = Field(
        default="error",
        description="What a row is that can't be used: error refuses the set, skip leaves the row "
        "out and says so in a warning.",
    )


class VariantSchema(_StrictModel):
    """The keys of one variant. What is left out is as ``VariantSpec`` has it."""

    width: WholeNumber | None = Field(
        default=None, ge=MIN_SIDE, le=MAX_SIDE, description="px. Left out: as the height makes it."
    )
    height: WholeNumber | None = Field(
        default=None, ge=MIN_SIDE, le=MAX_SIDE, description="px. Left out: as the width makes it."
    )
    fit: Literal["cover", "contain", "inside"] = Field(
        default="inside",
        description="inside: as large as fits into the box; cover: fills the box, what sticks out "
        "is cut; contain: as inside, and padded to the box.",
    )
    focus: Annotated[
        str | tuple[float, float],
        BeforeValidator(_focus_from_text, json_schema_input_type=str | tuple[float, float]),
    ] = Field(
        default="center",
        description=f"What cover keeps in view: {', '.join(FOCUS_POINTS)}, or fractions of width "
        "and height from the upper left corner, such as [0.5, 0.2].",
    )
    format: Literal["webp", "avif", "jpg", "png"] = Field(
        default="webp", description="The file's format."
    )
    quality: WholeNumber | None = Field(
        default=None,
        ge=MIN_QUALITY,
        le=MAX_QUALITY,
        description="1 to 100. Left out: webp 80, avif 63, jpg 82; png is always lossless.",
    )
    background: Text | None = Field(
        default=None,
        description='Colour behind what is transparent, such as "#ffffff", in quotes. Left out: '
        "transparency is kept, and white in a jpg.",
    )
    sharpen: Annotated[
        Number, BeforeValidator(_sharpen_from_text, json_schema_input_type=float | bool)
    ] = Field(
        default=DEFAULT_SHARPEN,
        ge=0,
        le=MAX_SHARPEN,
        description="Strength of the sharpening after shrinking; false: none.",
    )
    enlarge: Switch = Field(
        default=False, description="Whether a smaller picture is enlarged. If not, it stays small."
    )
    colors: Literal["srgb", "keep"] = Field(
        default="srgb", description="Converted to sRGB, or the picture's own colour profile kept."
    )

    def options(self) -> dict[str, Any]:
        """The keys that were given, as ``VariantSpec`` takes them."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class PublishSchema(_StrictModel):
    """Where chosen pictures are published, and how."""

    to: Annotated[Text, AfterValidator(_checked_target)] = Field(
        default="",
        description="file:PATH or s3://bucket/prefix. Left out: published/<set> in the store.",
    )
    name: Text = Field(
        default=DEFAULT_NAME,
        description="Path of each file below it, with {set}, {name}, {variant}, {format}, {take}, "
        "{output}, {prompt}, {partition}, {model}, by day {date}, and the placeholders of the "
        "prompts: matrix variables and every column of their tables.",
    )
    alt: Text = Field(
        default="",
        description="The text that describes a picture, with the same placeholders but {variant} "
        "and {format}. Left out: the prompt.",
    )
    variants: Mapping[str, Any] = Field(
        default_factory=dict,
        description="The files that are made of each picture, by name: their size and format.",
        json_schema_extra={
            "minProperties": 1,
            "additionalProperties": VariantSchema.model_json_schema(),
        },
    )
    prune: Switch = Field(
        default=False, description="Whether published files that are no longer chosen are removed."
    )
    index: Text = Field(
        default="index.json", description="Path of the index below it; index.csv stands beside it."
    )
    feed: Literal["json", "rss"] | None = Field(
        default=None, description="Also write a feed of what is new: a JSON Feed, or RSS."
    )
    url: Annotated[Text, AfterValidator(_checked_url)] = Field(
        default="", description="The web address under which it is seen, for the feed's links."
    )
    cache_control: Annotated[Text, AfterValidator(_checked_header)] | None = Field(
        default=None, description='Cache-Control of the pictures, such as "public, max-age=3600".'
    )
    acl: (
        Literal[
            "private",
            "public-read",
            "authenticated-read",
            "bucket-owner-read",
            "bucket-owner-full-control",
        ]
        | None
    ) = Field(default=None, description="Canned ACL of the files in a bucket. Left out: none.")
    storage_class: (
        Literal[
            "STANDARD",
            "STANDARD_IA",
            "ONEZONE_IA",
            "INTELLIGENT_TIERING",
            "GLACIER_IR",
            "REDUCED_REDUNDANCY",
            "EXPRESS_ONEZONE",
        ]
        | None
    ) = Field(default=None, description="Storage class of the files in a bucket.")


class PromptSetSchema(_StrictModel):
    """The keys of a prompt set's file."""

    description: Text = Field(default="", description="What the set is for, shown in the UI.")
    model: Text | None = Field(
        default=None,
        description="The model, owner/name. Left out where each prompt's matrix names models.",
    )
    version: Text | None = Field(
        default=None,
        description="Overrides the version that the model is pinned to: 64 hex digits, or "
        "owner/name: and 64 hex digits.",
    )
    owners: list[Annotated[Text, AfterValidator(_checked_owner)]] = Field(
        default_factory=list, description="Email addresses, or team:<name>."
    )
    tags: dict[
        Annotated[Text, AfterValidator(_checked_tag_key)],
        Annotated[PlainText, AfterValidator(_checked_tag_value)],
    ] = Field(default_factory=dict, description="Tags of the assets.")
    defaults: Mapping[str, Any] = Field(
        default_factory=dict,
        description="Inputs of the model for every prompt that doesn't set them itself.",
    )
    prompts: Mapping[str, Any] = Field(
        min_length=1,
        description="The prompts by name (a-z, 0-9, _ and -): a text, or a mapping.",
    )
    partitions: Partitions | None = Field(
        default=None,
        description="How the set is cut. Left out: as the set whose pictures it is made for, else"
        " by prompt.",
    )
    schedule: Schedule | None = Field(default=None, description="When it runs by itself.")
    budget: Budget = Field(default=Budget(), description="Limits of what it may cost.")
    automation: Literal["on_change", "on_schedule", "none"] | None = Field(
        default=None,
        description="What starts it without a person: on_change (edited or missing partitions), "
        "on_schedule, or none. Left out: on_schedule where there is a schedule, else none.",
    )
    choose: PlainText = Field(
        default="all",
        description="Which pictures are published: all, first (the first of each prompt), best (the"
        " technically best take), or a file of picks such as picks/products.csv.",
    )
    undecided: Literal["hold", "first"] | None = Field(
        default=None,
        description="A prompt without a pick: hold (left out, and said) or first. Left out: hold.",
    )
    publish: PublishSchema | None = Field(
        default=None, description="Where chosen pictures are published, and how."
    )


def checked_version(value: str, model_name: str) -> str:
    """The 64 hex digits of a version given alone or behind the model's name.

    Raises:
        ValueError: Not 64 digits, or another model's.
    """
    name, colon, digits = value.rpartition(":")
    if colon and name != model_name:
        raise ValueError(f"is a version of another model than {model_name}")
    if "/" in digits:
        raise ValueError("names a model and no version: add a colon and its 64 hex digits")
    if not _VERSION.fullmatch(digits):
        raise ValueError(
            f"a version is 64 hex digits (0-9, a-f), alone or behind {model_name}:, "
            f"not {len(digits)} characters"
        )
    return digits
