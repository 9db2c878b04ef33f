"""Keys of a file that are out of range, misspelled or contradictory are refused."""

import pytest

from tests.prompts.fixtures import Load, ProblemsOf


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("owners: [studio]", "owners.0", "email address or team:<name>"),
        ("owners: ['team:']", "owners.0", "email address"),
        ("tags: {'a b': c}", "tags.a b", "a tag's key"),
        ("tags: {a: 'b c'}", "tags.a", "a tag's value"),
        ("tags: {dagster/x: y}", "tags.dagster/x", "namespace other than dagster"),
        ("partitions: {by: week}", "partitions.by", "prompt, shard, day"),
        ("partitions: {count: 3}", "partitions.by", "prompt, shard, day"),
        ("partitions: {by: shard}", "partitions.count", "is missing"),
        ("partitions: {by: shard, count: 0}", "partitions.count", "1 to 10000"),
        ("partitions: {by: shard, count: 2, start: 2026-11-01}", "partitions.start", "unknown key"),
        ("partitions: {by: day, start: 2026-13-01}", "partitions.start", "no day of the calendar"),
        ("partitions: {by: day, start: tomorrow}", "partitions.start", "YYYY-MM-DD"),
        (
            "partitions: {by: day, start: 2026-11-01, timezone: Mars}",
            "partitions.timezone",
            "no time zone",
        ),
        ("partitions: prompt", "partitions", "a mapping"),
        ("schedule: {cron: '61 * * * *'}", "schedule.cron", "minute: 61"),
        ("schedule: {cron: '0 6 * * *', timezone: ../x}", "schedule.timezone", "no time zone"),
        ("schedule: '0 6 * * *'", "schedule", "a mapping"),
        ("schedule: {crom: x}", "schedule.crom", "did you mean cron"),
        ("budget: {usd_per_run: -1}", "budget.usd_per_run", "at least 0"),
        ("budget: {usd_per_week: 1}", "budget.usd_per_week", "unknown key"),
        ("automation: on_schedule", "automation", "needs a schedule"),
        ("automation: always", "automation", "one of on_change, on_schedule, none"),
        ("automation: on_change\nschedule: {cron: '@daily'}", "automation", "exclude each other"),
    ],
)
def test_settings_are_refused_with_what_is_allowed(
    problems: ProblemsOf, text: str, key: str, words: str
) -> None:
    found = problems(f"prompts: {{a: b}}\n{text}\n")
    assert [problem.key for problem in found if words in problem.message] == [key], found


def test_a_schedule_can_be_switched_off(load: Load) -> None:
    prompt_set = load("prompts: {a: b}\nschedule: {cron: '@daily'}\nautomation: none\n")
    assert prompt_set.automation == "none"
    assert prompt_set.schedule is not None


HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("version", "words"),
    {
        "no digits": (
            "lucataco/flux-schnell-lora",
            ("names a model and no version", "64 hex digits"),
        ),
        "no sha behind the colon": ("'lucataco/flux-schnell-lora:'", ("64 hex digits", "not 0")),
        "63 digits": (HEX[:63], ("64 hex digits", "not 63 characters")),
        "65 digits": (HEX + "0", ("64 hex digits", "not 65 characters")),
        "upper case": (HEX.upper(), ("64 hex digits (0-9, a-f)",)),
        "another model's": (f"owner/other:{HEX}", ("another model than lucataco/",)),
    }.values(),
)
def test_a_version_is_refused(problems: ProblemsOf, version: str, words: tuple[str, ...]) -> None:
    (problem,) = problems(f"version: {version}\nprompts: {{a: b}}\n")
    assert problem.key == "version"
    assert all(word in problem.message for word in words), problem.message


@pytest.mark.parametrize("version", [HEX, f"lucataco/flux-schnell-lora:{HEX}"])
def test_a_version_overrides_the_pinned_one(load: Load, version: str) -> None:
    (request,) = load(f"version: {version}\nprompts: {{a: b}}\n").requests()
    assert request.version == HEX
    assert request.body()["version"] == f"lucataco/flux-schnell-lora:{HEX}"
