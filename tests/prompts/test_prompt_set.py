"""A prompt set as its users see it: partitions, requests, seeds, versions of data."""

import hashlib
import pickle
from pathlib import Path

import pytest

from flux_pipeline.errors import ConfigError
from flux_pipeline.prompts import (
    ByDay,
    ByPrompt,
    ByShard,
    Document,
    build_prompt_set,
    load_prompt_set,
    load_prompt_sets,
)
from flux_pipeline.request import Request
from tests.prompts.sets import HEAD, Load, ProblemsOf, Write

HARBOUR = """\
prompts:
  castle: a castle
  harbour:
    prompt: "a {weather} harbour at {hour}"
    matrix: {weather: [calm, stormy], hour: [dawn, dusk]}
    takes: 3
"""


def seeds(requests: list[Request]) -> list[int | None]:
    return [request.seed for request in requests]


def test_the_form_of_the_design_is_read_whole(write: Write) -> None:
    write("prompts/products.csv", "sku,name\nA-1,oak chair\nA-2,pine table\n")
    path = write(
        "winter.yaml",
        """\
description: Winter campaign
model: lucataco/flux-schnell-lora          # the version is pinned by the model
owners: ["team:studio"]
tags: {campaign: winter}
defaults: {hf_lora: alvdansen/frosting_lane_flux, aspect_ratio: "16:9"}
prompts:
  castle: a beautiful castle frstingln illustration
  harbour:
    prompt: "a {weather} harbour at {hour}, frstingln illustration"
    matrix: {weather: [calm, stormy], hour: [dawn, dusk]}
    takes: 3
  product:
    prompt: "{name}, studio light"
    table: prompts/products.csv
    key: sku
partitions: {by: prompt}
schedule: {cron: "0 6 * * *", timezone: Asia/Shanghai}
budget: {usd_per_run: 5, usd_per_month: 100}
""",
    )
    prompt_set = load_prompt_set(path)
    assert prompt_set.name == "winter"
    assert prompt_set.path == str(path)
    assert prompt_set.description == "Winter campaign"
    assert prompt_set.owners == ("team:studio",)
    assert prompt_set.tags == {"campaign": "winter"}
    assert prompt_set.partitions == ByPrompt(by="prompt")
    assert prompt_set.schedule is not None
    assert (prompt_set.schedule.cron, prompt_set.schedule.timezone) == (
        "0 6 * * *",
        "Asia/Shanghai",
    )
    assert (prompt_set.budget.usd_per_run, prompt_set.budget.usd_per_month) == (5, 100)
    assert prompt_set.automation == "on_schedule"
    assert prompt_set.partition_keys() == (
        "castle",
        "harbour-calm-dawn",
        "harbour-calm-dusk",
        "harbour-stormy-dawn",
        "harbour-stormy-dusk",
        "product-a-1",
        "product-a-2",
    )
    requests = list(prompt_set.requests())
    assert len(requests) == 1 + 4 * 3 + 2
    assert requests[1].input == {
        "prompt": "a calm harbour at dawn, frstingln illustration",
        "hf_lora": "alvdansen/frosting_lane_flux",
        "aspect_ratio": "16:9",
        "seed": requests[1].seed,
    }
    assert requests[3].source.take == 3
    assert requests[3].source.config_path == str(path)


def test_left_out_keys_have_quiet_defaults(load: Load) -> None:
    prompt_set = load("prompts: {a: b}\n")
    assert prompt_set.partitions == ByPrompt(by="prompt")
    assert prompt_set.automation == "none"
    assert prompt_set.schedule is None
    assert prompt_set.budget.usd_per_run is None
    assert prompt_set.version == prompt_set.model.version
    assert prompt_set.warnings == ()
    assert prompt_set.is_checked


def test_the_same_file_gives_the_same_requests(load: Load) -> None:
    assert list(load(HARBOUR).requests()) == list(load(HARBOUR).requests())


def test_one_partition_several_and_all(load: Load) -> None:
    prompt_set = load(HARBOUR)
    everything = list(prompt_set.requests())
    one = list(prompt_set.requests("harbour-calm-dusk"))
    assert one == [r for r in everything if r.source.partition == "harbour-calm-dusk"]
    assert [request.source.take for request in one] == [1, 2, 3]
    several = list(prompt_set.requests(["harbour-calm-dusk", "castle"]))
    assert [r.source.partition for r in several] == ["castle", *["harbour-calm-dusk"] * 3]
    assert list(prompt_set.requests([])) == []
    assert {r.source.partition for r in everything} == set(prompt_set.partition_keys())


def test_an_unknown_partition_is_refused_before_the_first_request(load: Load) -> None:
    with pytest.raises(
        ConfigError, match="no partition harbour-calm-dust; near it: harbour-calm-dusk"
    ):
        load(HARBOUR).requests("harbour-calm-dust")


def test_derived_seeds_are_unique_stable_and_of_31_bits(load: Load) -> None:
    found = seeds(list(load(HARBOUR).requests()))
    assert len(set(found)) == len(found) == 13
    assert all(seed is not None and 0 <= seed < 2**31 for seed in found)
    # A change of this value means that every image ever made would be paid for again.
    assert found[0] == 1453647956


def test_how_a_set_is_cut_changes_no_seed(load: Load) -> None:
    by_prompt = load(HARBOUR).requests()
    by_shard = load(HARBOUR + "partitions: {by: shard, count: 3}\n").requests()
    assert [r.request_sha256 for r in by_prompt] == [r.request_sha256 for r in by_shard]


def test_a_seed_of_its_own_counts_up_with_the_takes(load: Load) -> None:
    prompt_set = load("prompts: {a: {prompt: b, seed: 7, takes: 3}}\n")
    assert seeds(list(prompt_set.requests())) == [7, 8, 9]


def test_without_a_seed_none_is_sent(load: Load) -> None:
    (request,) = load("prompts: {a: {prompt: b, seed: none}}\n").requests()
    assert request.input == {"prompt": "b"}
    assert request.seed is None


def test_the_default_seed_may_be_none_or_a_number(load: Load) -> None:
    text = "prompts: {a: b, c: {prompt: d, seed: 3}}\n"
    assert seeds(list(load("defaults: {seed: none}\n" + text).requests())) == [None, 3]
    assert seeds(list(load("defaults: {seed: 9}\n" + text).requests())) == [9, 3]


def test_none_takes_back_a_default(load: Load) -> None:
    plain, with_lora = load(
        "defaults: {hf_lora: a/b}\nprompts: {a: {prompt: c, hf_lora: none}, d: e}\n"
    ).requests()
    assert "hf_lora" not in plain.input
    assert with_lora.input["hf_lora"] == "a/b"


def test_placeholders_in_defaults_are_filled_in_for_every_prompt(load: Load) -> None:
    prompt_set = load(
        'defaults: {aspect_ratio: "{ratio}"}\n'
        'prompts: {a: {prompt: "b {ratio}", matrix: {ratio: [1:1, 16:9]}}}\n'
    )
    assert prompt_set.partition_keys() == ("a-1-1", "a-16-9")
    assert [request.width for request in prompt_set.requests()] == [1024, 1344]


def test_a_bad_matrix_value_is_said_with_the_combination(problems: ProblemsOf) -> None:
    (problem,) = problems(
        'prompts:\n  a:\n    prompt: b\n    num_outputs: "{n}"\n    matrix: {n: [1, 5]}\n'
    )
    assert (problem.line, problem.key) == (5, "prompts.a.num_outputs")
    assert problem.message == "5 is not allowed (1 to 4) (with n: 5)"


def test_two_prompts_of_one_name_are_refused(problems: ProblemsOf) -> None:
    (problem,) = problems('prompts:\n  a-b: c\n  a:\n    prompt: "d {x}"\n    matrix: {x: [b]}\n')
    assert (problem.line, problem.key) == (4, "prompts.a")
    assert "is named a-b too" in problem.message


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        ("{x: [a, a]}", '"a" stands twice'),
        ("{x: [A 1, a-1]}", '"A 1" and "a-1" give the same name (a-1)'),
        ('{"x.y": [a]}', "a variable's name is made of"),
    ],
)
def test_matrix_mistakes(problems: ProblemsOf, matrix: str, words: str) -> None:
    found = problems(f'prompts: {{a: {{prompt: "b {{x}}", matrix: {matrix}}}}}\n')
    assert any(words in problem.message for problem in found)


def test_a_matrix_variable_may_not_hide_a_column(write: Write, problems: ProblemsOf) -> None:
    write("t.csv", "name\na\n")
    (problem,) = problems('prompts: {a: {prompt: "{name}", table: t.csv, matrix: {name: [b]}}}\n')
    assert "is taken" in problem.message


# partitions by shard

SHARDS = "prompts:\n" + "".join(f"  p{n}: prompt {n}\n" for n in range(200))


def test_shards_are_few_named_and_hold_everything_once(load: Load) -> None:
    prompt_set = load(SHARDS + "partitions: {by: shard, count: 8}\n")
    assert prompt_set.partition_keys() == tuple(f"shard-000{n}" for n in range(8))
    names = [
        request.source.prompt_name
        for key in prompt_set.partition_keys()
        for request in prompt_set.requests(key)
    ]
    assert sorted(names) == sorted(f"p{n}" for n in range(200))
    assert prompt_set.partitions == ByShard(by="shard", count=8)


def test_a_new_prompt_moves_no_other(load: Load) -> None:
    cut = "partitions: {by: shard, count: 8}\n"
    before = {r.source.prompt_name: r.source.partition for r in load(SHARDS + cut).requests()}
    grown = SHARDS.replace("  p100:", "  another: prompt\n  p100:")
    after = {r.source.prompt_name: r.source.partition for r in load(grown + cut).requests()}
    assert after.pop("another").startswith("shard-")
    assert after == before


def test_too_many_prompts_for_a_partition_each_are_told_to_choose_shard(
    write: Write, problems: ProblemsOf, load: Load
) -> None:
    write("t.csv", "name\n" + "".join(f"n{n}\n" for n in range(1_200)))
    table = 'prompts: {a: {prompt: "{name}", table: t.csv}}\n'
    (problem,) = problems(table)
    assert problem.key == "partitions"
    assert "1,200 prompts" in problem.message
    assert "partitions: {by: shard, count: 3}" in problem.message
    assert len(list(load(table + "partitions: {by: shard, count: 3}\n").requests())) == 1_200


# partitions by day

DAYS = """\
prompts: {a: "a street on {date}", b: a window}
partitions: {by: day, start: 2026-11-01, timezone: Europe/Berlin}
"""


def test_a_day_changes_seeds_and_date_and_can_be_made_again(load: Load) -> None:
    prompt_set = load(DAYS)
    first, second = (list(prompt_set.requests(day)) for day in ("2026-11-01", "2026-11-02"))
    assert first[0].input["prompt"] == "a street on 2026-11-01"
    assert {r.source.partition for r in second} == {"2026-11-02"}
    assert len({*seeds(first), *seeds(second)}) == 4
    assert list(load(DAYS).requests("2026-11-02")) == second
    assert list(prompt_set.requests(["2026-11-02", "2026-11-01"])) == first + second


def test_days_have_no_list_of_keys_and_must_be_named(load: Load) -> None:
    prompt_set = load(DAYS)
    assert isinstance(prompt_set.partitions, ByDay)
    assert prompt_set.partition_keys() == ()
    with pytest.raises(ConfigError, match="name those that are meant"):
        prompt_set.requests()
    assert prompt_set.check() == ()


@pytest.mark.parametrize(
    ("day", "words"),
    [
        ("2026-10-31", "before the first day, 2026-11-01"),
        ("2026-11-31", "no day of the calendar"),
        ("20261101", "YYYY-MM-DD"),
        ("tomorrow", "YYYY-MM-DD"),
    ],
)
def test_other_days_are_refused(load: Load, day: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load(DAYS).requests(day)


@pytest.mark.parametrize("seed", ["7", "none"])
def test_a_fixed_seed_needs_the_date_in_the_prompt(
    load: Load, problems: ProblemsOf, seed: str
) -> None:
    cut = "partitions: {by: day, start: 2026-11-01}\n"
    (problem,) = problems(f"prompts: {{a: {{prompt: b, seed: {seed}}}}}\n{cut}")
    assert "every day would ask for the same image" in problem.message
    assert load(f'prompts: {{a: {{prompt: "b {{date}}", seed: {seed}}}}}\n{cut}').requests(
        "2026-11-01"
    )


def test_the_date_is_a_placeholder_of_days_alone(problems: ProblemsOf) -> None:
    (problem,) = problems('prompts: {a: "b {date}"}\n')
    assert "unknown placeholder {date}" in problem.message


# data versions and checksums


def test_an_edit_changes_the_data_version_of_its_partition_alone(load: Load) -> None:
    keys = ["castle", "harbour-calm-dawn"]
    before = load(HARBOUR).data_versions(keys)
    after = load(HARBOUR.replace("a castle", "a red castle")).data_versions(keys)
    assert before["castle"] != after["castle"]
    assert before["harbour-calm-dawn"] == after["harbour-calm-dawn"]
    assert load(HARBOUR).data_version("castle") == before["castle"]
    assert load(HARBOUR).data_versions("castle") == {"castle": before["castle"]}


def test_what_changes_no_request_changes_no_data_version(load: Load) -> None:
    cut = "partitions: {by: shard, count: 1}\n"
    other = "prompts:\n  c: d   # comment\n  a: {prompt: b, num_outputs: 1}\n"
    assert load("prompts: {a: b, c: d}\n" + cut).data_version("shard-0000") == load(
        other + cut
    ).data_version("shard-0000")


def test_a_lost_take_changes_the_data_version(load: Load) -> None:
    fewer = HARBOUR.replace("takes: 3", "takes: 2")
    key = "harbour-calm-dawn"
    assert load(HARBOUR).data_version(key) != load(fewer).data_version(key)


def test_the_checksum_is_the_files_own_and_changes_with_its_tables(write: Write) -> None:
    path = write("x.yaml", HEAD + "prompts: {a: b}\n")
    assert load_prompt_set(path).config_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    write("t.csv", "name\na\n")
    path = write("x.yaml", HEAD + 'prompts: {a: {prompt: "{name}", table: t.csv}}\n')
    before = load_prompt_set(path).config_sha256
    write("t.csv", "name\nb\n")
    assert load_prompt_set(path).config_sha256 != before


def test_a_table_that_changed_since_loading_is_refused(write: Write, load: Load) -> None:
    table = write("t.csv", "name\na\n")
    prompt_set = load('prompts: {a: {prompt: "{name}", table: t.csv}}\n')
    table.touch()
    assert len(list(prompt_set.requests())) == 1
    write("t.csv", "name\nb\n")
    with pytest.raises(ConfigError, match="changed since it was loaded: load it again"):
        prompt_set.requests()
    table.unlink()
    with pytest.raises(ConfigError, match="changed since it was loaded"):
        prompt_set.requests()


# folders and mappings


def test_a_folder_is_read_in_the_order_of_names_and_without_its_subfolders(
    write: Write, tmp_path: Path
) -> None:
    for name in ("b.yaml", "a-1.yml", "c.txt", "sub/d.yaml"):
        write(name, HEAD + "prompts: {a: b}\n")
    assert [prompt_set.name for prompt_set in load_prompt_sets(tmp_path)] == ["a_1", "b"]


def test_an_empty_folder_holds_no_sets(tmp_path: Path) -> None:
    assert load_prompt_sets(tmp_path) == ()


def test_two_files_of_one_name_are_refused(write: Write, tmp_path: Path) -> None:
    write("a-b.yaml", HEAD + "prompts: {a: b}\n")
    write("a_b.yaml", HEAD + "prompts: {a: b}\n")
    with pytest.raises(ConfigError, match="is named a_b, and so is"):
        load_prompt_sets(tmp_path)


def test_a_mapping_may_hold_numbers_where_a_file_holds_text(load: Load) -> None:
    document = {
        "model": "lucataco/flux-schnell-lora",
        "defaults": {"num_outputs": 2, "lora_scale": 1},
        "prompts": {"a": {"prompt": "b {n}", "matrix": {"n": [1, 2.5]}, "takes": 2}},
        "budget": {"usd_per_run": 1},
    }
    built = build_prompt_set("x", document)
    loaded = load(
        "defaults: {num_outputs: 2, lora_scale: 1}\n"
        'prompts: {a: {prompt: "b {n}", matrix: {n: [1, 2.5]}, takes: 2}}\n'
    )
    assert [r.request_sha256 for r in built.requests()] == [
        r.request_sha256 for r in loaded.requests()
    ]
    assert built.path == ""


def test_a_mapping_says_its_mistakes_with_its_name_and_given_lines() -> None:
    document = {
        "model": "lucataco/flux-schnell-lora",
        "prompts": {"a": {"prompt": 3.5, "takes": True}, 7: "x"},
    }
    with pytest.raises(ConfigError) as raised:
        build_prompt_set("x", Document("defs.yaml", document, {("prompts", "a"): 9}))
    assert str(raised.value).splitlines() == [
        "defs.yaml: prompts.7: must be text, not 7; put it in quotes",
        "defs.yaml:9: prompts.a.takes: true is not allowed (a whole number, 1 to 1000)",
    ]


def test_an_aspect_ratio_that_yaml_made_a_number_is_refused_with_the_hint() -> None:
    document = {
        "model": "lucataco/flux-schnell-lora",
        "prompts": {"a": {"prompt": "b", "aspect_ratio": 969}},
    }
    with pytest.raises(ConfigError, match=r"969 is not allowed \(one of 1:1"):
        build_prompt_set("x", document)


def test_tables_of_a_mapping_are_looked_for_in_the_folder_given(
    write: Write, tmp_path: Path
) -> None:
    write("t.csv", "name\na\n")
    document = {
        "model": "lucataco/flux-schnell-lora",
        "prompts": {"p": {"prompt": "{name}", "table": "t.csv"}},
    }
    assert build_prompt_set("x", document, folder=tmp_path).partition_keys() == ("p-row-000001",)
    assert build_prompt_set("x", document, path=str(tmp_path / "defs.yaml")).partition_keys()


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


def test_a_prompt_set_is_a_value(load: Load) -> None:
    prompt_set = load(HARBOUR)
    assert hash(prompt_set) == hash(load(HARBOUR))
    copy = pickle.loads(pickle.dumps(prompt_set))  # noqa: S301 -- our own bytes
    assert list(copy.requests()) == list(prompt_set.requests())


def test_null_in_a_mapping_is_as_if_left_out() -> None:
    document = {
        "model": "lucataco/flux-schnell-lora",
        "defaults": {"hf_lora": "a/b", "seed": None},
        "prompts": {"a": {"prompt": "b", "hf_lora": None, "seed": None}, "c": "d"},
    }
    first, second = build_prompt_set("x", document).requests()
    assert first.input.keys() == {"prompt", "seed"}
    assert second.input["hf_lora"] == "a/b"


def test_an_unreadable_folder_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ConfigError, match="can't be read: Permission denied"):
        load_prompt_sets(tmp_path)
