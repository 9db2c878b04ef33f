"""Every cron line that passes here is accepted by Dagster."""

import dagster as dg
import pytest

from flux_pipeline.prompts.cron import checked_cron

GOOD = [
    "0 6 * * *",
    "*/15 * * * *",
    "0 0 1 1 *",
    "0 9-17/2 * * mon-fri",
    "5,35 6,18 1,15 jan,jul *",
    "0 0 * * 7",
    "0 0 31 1-12 *",
    "0 0 29 2 *",
    "59 23 31 12 6",
    "10/20 * * * *",
    "@daily",
    "@hourly",
    "@weekly",
    "@monthly",
    "@yearly",
]


@pytest.mark.parametrize("line", GOOD)
def test_a_line_is_accepted_here_and_by_dagster(line: str) -> None:
    assert checked_cron(line) == line
    dg.ScheduleDefinition(name="s", cron_schedule=line, job_name="j")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "has 0 fields"),
        ("0 6 * *", "has 4 fields"),
        ("0 0 6 * * *", "has 6 fields"),
        ("60 * * * *", "minute: 60"),
        ("* 24 * * *", "hour: 24"),
        ("* * 0 * *", "day of month: 0"),
        ("* * * 13 *", "month: 13"),
        ("* * * foo *", "month: foo"),
        ("* * * * 8", "day of week: 8"),
        ("* * * * jan", "day of week: jan"),
        ("*/0 * * * *", "minute"),
        ("30-10 * * * *", "ends before it starts"),
        ("1,,2 * * * *", "minute"),
        ("-1 * * * *", "minute"),
        ("0 0 30 2 *", "never happens"),
        ("0 0 31 2 mon", "never happens"),
        ("0 0 31 4,6,9,11 *", "never happens"),
        ("@reboot", "has 1 fields"),
        ("0 6 L * *", "day of month"),
        ("every morning at six o'clock", "minute: every"),
    ],
)
def test_a_line_is_refused_with_the_field(line: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        checked_cron(line)
