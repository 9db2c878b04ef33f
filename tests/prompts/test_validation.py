"""pydantic's errors become messages with the value, what is allowed and the nearest key."""

from datetime import date
from typing import Annotated, Literal

import pytest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from flux_pipeline.models.base import Number, Switch, Text, WholeNumber
from flux_pipeline.prompts.validation import describe_errors, describe_unknown_key


def refuse(_value: str) -> str:
    raise ValueError("is refused for a reason")


class ByCount(BaseModel):
    model_config = ConfigDict(extra="forbid")
    by: Literal["count"]
    count: WholeNumber = Field(ge=1)


class ByName(BaseModel):
    model_config = ConfigDict(extra="forbid")
    by: Literal["name"]


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: WholeNumber = Field(default=1, le=9)


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    number: Number = Field(default=0, ge=0, le=1)
    whole: WholeNumber = Field(default=1, ge=1, le=4)
    least: WholeNumber = Field(default=1, ge=1)
    switch: Switch = False
    word: Literal["red", "green"] = "red"
    maybe: Literal["a", "b"] | None = None
    text: Text = ""
    checked: Annotated[Text, AfterValidator(refuse)] | None = None
    items: Annotated[list[Text], Field(min_length=1)] = ["x"]
    table: dict[str, list[Text]] = Field(default_factory=dict)
    inner: Inner | None = None
    parts: Annotated[ByCount | ByName, Field(discriminator="by")] = ByName(by="name")
    day: Annotated[date, Field(strict=True)] = date(2026, 11, 1)


def messages_of(**values: object) -> list[str]:
    with pytest.raises(ValidationError) as raised:
        Outer.model_validate(values)
    return [
        f"{'.'.join(keys)}: {message}" for keys, message in describe_errors(raised.value, Outer)
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"whole": 5}, "whole: 5 is not allowed (1 to 4)"),
        ({"whole": "two"}, 'whole: "two" is not allowed (a whole number, 1 to 4)'),
        ({"whole": 1.5}, "whole: 1.5 is not allowed (a whole number, 1 to 4)"),
        ({"whole": True}, "whole: true is not allowed (a whole number, 1 to 4)"),
        ({"least": 0}, "least: 0 is not allowed (at least 1)"),
        (
            {"table": "猫：一只猫"},
            (
                'table: "猫：一只猫" is not allowed (a mapping): a full-width colon (：) stands'
                " there; YAML takes : and a blank behind it"
            ),
        ),
        ({"number": "x"}, 'number: "x" is not allowed (a number, 0 to 1)'),
        ({"number": float("nan")}, "number: nan is not allowed (0 to 1)"),
        ({"switch": "on"}, 'switch: "on" is not allowed (true or false)'),
        ({"word": "blue"}, 'word: "blue" is not allowed (one of red, green)'),
        ({"word": "RED "}, 'word: "RED " is not allowed (write red; one of red, green)'),
        ({"maybe": "c"}, 'maybe: "c" is not allowed (one of a, b)'),
        ({"text": 3}, "text: must be text, not 3; put it in quotes"),
        ({"text": None}, "text: must be text, not null; put it in quotes"),
        ({"checked": "x"}, "checked: is refused for a reason"),
        ({"items": []}, "items: is empty"),
        ({"items": "x"}, 'items: "x" is not allowed (a list)'),
        ({"items": ["a", 2]}, "items.1: must be text, not 2; put it in quotes"),
        ({"table": {"a": "b"}}, 'table.a: "b" is not allowed (a list)'),
        ({"table": []}, "table: a list is not allowed (a mapping)"),
        ({"inner": "x"}, 'inner: "x" is not allowed (a mapping)'),
        ({"inner": {"size": 10}}, "inner.size: 10 is not allowed (at most 9)"),
        ({"inner": {"sise": 1}}, 'inner.sise: unknown key "sise"; did you mean size?'),
        ({"parts": {"by": "count", "count": 0}}, "parts.count: 0 is not allowed (at least 1)"),
        ({"parts": {"by": "count"}}, "parts.count: is missing"),
        ({"parts": {"by": "name", "x": 1}}, 'parts.x: unknown key "x"; allowed: by'),
        ({"day": 5}, "day: 5 is not allowed (a day, YYYY-MM-DD)"),
        ({"wole": 1}, 'wole: unknown key "wole"; did you mean whole?'),
    ],
    ids=str,
)
def test_a_mistake_is_described(values: dict[str, object], expected: str) -> None:
    assert messages_of(**values) == [expected]


def test_all_mistakes_are_described() -> None:
    assert len(messages_of(whole=9, number=9, inner={"size": 10, "x": 1})) == 4


def test_a_far_key_is_answered_with_all_that_there_are() -> None:
    assert describe_unknown_key("zzz", ["a", "b"]) == 'unknown key "zzz"; allowed: a, b'
