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

from flux_pipeline.models.base import Number, Text, WholeNumber
from flux_pipeline.prompts.cron import checked_cron

MAX_TAKES = 1_000
MAX_SHARDS = 10_000
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
