from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import click
import pytest

from flux_pipeline.cli.workspace import PartitionChoice, choose_partitions
from flux_pipeline.prompts import PromptSet, build_prompt_set

TODAY = datetime.now(ZoneInfo("Pacific/Auckland")).date()
START = TODAY - timedelta(days=3)


@pytest.fixture
def daily() -> PromptSet:
    return build_prompt_set(
        "daily",
        {
            "model": "lucataco/flux-schnell-lora",
            "partitions": {
                "by": "day",
                "start": START.isoformat(),
                "timezone": "Pacific/Auckland",
            },
            "prompts": {"a": "a picture of {date}"},
        },
        folder=Path(),
    )


def day(number: int) -> str:
    """The day that comes so many days after today."""
    return (TODAY + timedelta(days=number)).isoformat()


def test_days_are_named_singly_or_from_one_to_another(daily: PromptSet) -> None:
    assert choose_partitions(daily) == [day(0)]
    assert choose_partitions(daily, PartitionChoice((day(-1), day(-3)))) == [day(-3), day(-1)]
    assert choose_partitions(daily, PartitionChoice((), day(-2), day(-1))) == [day(-2), day(-1)]
    assert choose_partitions(daily, PartitionChoice((), day(-1))) == [day(-1), day(0)]
    assert choose_partitions(daily, PartitionChoice((), None, day(-2))) == [day(-3), day(-2)]


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (PartitionChoice((day(1),)), f"{day(1)}: that day has not begun, today is {day(0)} in"),
        (PartitionChoice((), day(0), day(2)), f"{day(2)}: that day has not begun"),
        (PartitionChoice((day(-4),)), f"begins on {day(-3)}: {day(-4)} is before that"),
        (PartitionChoice((), day(0), day(-1)), f"--from {day(0)} is after --to {day(-1)}"),
        (PartitionChoice(("yesterday",)), "yesterday: a day is written YYYY-MM-DD"),
    ],
)
def test_a_day_that_can_not_be_made_is_refused_with_the_reason(
    daily: PromptSet, choice: PartitionChoice, words: str
) -> None:
    with pytest.raises(click.BadParameter) as refused:
        choose_partitions(daily, choice)
    assert words in str(refused.value)
