"""A defs.yaml means what a prompt set file means: the same text gives the same set, or mistakes."""

import json
from pathlib import Path
from typing import Any, TypeAlias

import dagster as dg
import jsonschema
import pytest
from dagster_shared.yaml_utils import parse_yaml_with_source_position
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flux_pipeline.defs.components import PromptSetAttributes
from flux_pipeline.errors import ConfigError
from flux_pipeline.prompts import ByDay, json_schema, load_prompt_set
from flux_pipeline.prompts import PromptSet as LoadedPromptSet
from tests.defs.component_project import (
    MODEL,
    component_text,
    config_error,
    load,
    load_sets,
    problems,
    write_defs,
)

pytestmark = pytest.mark.filterwarnings("ignore:`parse_obj_as` is deprecated")

HEAD = f"model: {MODEL}\n"
RATIOS = ["1:1", "16:9", "21:9", "3:2", "2:3", "4:5", "5:4", "3:4", "4:3", "9:16", "9:21"]


FIRST = component_text(f"name: first\n{HEAD}prompts: {{a: a}}\n") + "---\n# a note\n"
BEFORE = FIRST.count("\n") + len(["type", "attributes"])
Said: TypeAlias = list[tuple[int, str, str]]


def meant(prompt_set: LoadedPromptSet) -> dict[str, Any]:
    """All that a prompt set says, but where it stands."""
    cut = prompt_set.partitions
    requests = prompt_set.requests(str(cut.start) if isinstance(cut, ByDay) else None)
    said = ("name", "description", "owners", "tags", "partitions", "schedule", "budget")
    return {name: getattr(prompt_set, name) for name in (*said, "automation")} | {
        "requests": [
            (each.request_sha256, each.source.prompt_name, each.source.take) for each in requests
        ]
    }


def said(error: ConfigError) -> Said:
    return [(each.line, each.key, each.message) for each in error.problems]


def in_a_file(folder: Path, body: str) -> dict[str, Any] | Said:
    """What it means as a file, in the lines in which it stands as attributes."""
    path = folder / "winter.yaml"
    path.write_text("\n" * BEFORE + body, "utf-8")
    try:
        return meant(load_prompt_set(path))
    except ConfigError as error:
        return said(error)


def as_attributes(project: Path, body: str) -> dict[str, Any] | Said:
    """What it means as the second component of a file."""
    folder = project / "src/other/defs/winter"
    folder.mkdir(exist_ok=True)
    (folder / "defs.yaml").write_text(FIRST + component_text(f"{body}\nname: winter\n"), "utf-8")
    try:
        loaded = load_sets(project)
    except Exception as error:  # noqa: BLE001  Dagster's own class is not public
        return said(config_error(error))
    (found,) = [each.prompt_set for each in loaded if each.prompt_set.name == "winter"]
    return meant(found)


TABLE = [
    *(f"prompts: {{a: {{prompt: a, aspect_ratio: {ratio}}}}}" for ratio in RATIOS),
    "defaults: {aspect_ratio: 16:9}\nprompts: {a: a}",
    "prompts: {a: no, b: yes, c: on, d: ~, e: 010, f: 1e3, g: 0x1F, h: 12:30, i: .5, j: null}",
    "prompts: {on: a, off: b, 010: c, 2025: d, 2025-07-29: e}",
    'prompts: {a: {prompt: "{x} {y}", matrix: {x: [on, 010, 1:30, 1_000], y: [2025-07-29, ~]}}}',
    "prompts: {a: a}\npartitions: {by: day, start: 2025-07-29}",
    'prompts: {a: "{date}"}\npartitions: {by: day, start: 2025-07-29, timezone: Europe/Berlin}',
    "prompts: {a: a}\npartitions: {by: shard, count: 010}",
    "prompts: {a: a}\npartitions: {by: shard, count: 1e1}",
    "prompts: {a: a}\ntags: {year: 2025, yes: no, v: 1.10}",
    "prompts: {a: a}\nversion: " + "1" * 64,
    "prompts: {a: a}\ndescription: 2025-07-29\nowners: [team:1]",
    "prompts: {a: a}\nbudget: {usd_per_run: 1e-1, usd_per_month: 1_0}",
    "prompts: {a: a}\nschedule: {cron: 0 6 * * *, timezone: UTC}",
    'prompts: {a: "{{braces}} {{ x }} {{{{"}',
    'prompts: {a: {prompt: "{{a}} {b}", matrix: {b: ["{", "{{ c }}", "}}"]}}}',
    "prompts:\n  a: >\n    folded\n    text\n\n  b: |\n    as it\n    stands\n",
    "prompts: {a: {prompt: a, seed: 010}, b: {prompt: b, seed: 0}}",
    "prompts: {a: {prompt: a, disable_safety_checker: yes}, b: {prompt: b, lora_scale: 1}}",
    "# a note\n\nprompts: # another\n  城堡: a\n  é: b\n",
    'prompts: {a: "城堡, “snow” \\u2014 \\"x\\""}',
    "prompts: {a: a}\nautomation: on_change",
    "prompts: {a: a}\nautomation: off",
    "prompts: {a: a, a: b}",
    "prompts: {a: {prompt: a, takes: 2, takes: 3}}\nmodel: x",
    "prompts: {a: &x a, b: *x}",
    "prompts: {a: !!str a}",
    "prompts: {a: {prompt: a, steps: 3}}\npromts: {}\n",
    "prompts: {}",
    "prompts: [a, b]",
    "owners: nobody\nprompts: {a: {takes: no}}",
]


@pytest.mark.parametrize("body", TABLE)
def test_attributes_mean_what_a_file_means(project: Path, body: str) -> None:
    assert as_attributes(project, HEAD + body) == in_a_file(project, HEAD + body)


WORDS = ("no", "yes", "on", "~", "010", "1e3", "0x1F", "12:30", "16:9", "1_0", "2025-07-29", "a")
KEYS = ("a", "b", "on", "010", "1:30", "prompt", "matrix", "takes", "seed", "aspect_ratio")
keys = st.sampled_from(KEYS)
scalars = st.sampled_from(WORDS) | st.builds(
    json.dumps,
    st.sampled_from(["{x}", "{{ }}", *WORDS]) | st.text("a:é城-{}[]#&*!|>%@`\n", max_size=6),
)


def flow(entries: list[tuple[str, str]]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in entries) + "}"


values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda each: f"[{', '.join(each)}]")
        | st.lists(st.tuples(keys, inner), max_size=3).map(flow)
    ),
    max_leaves=6,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prompts=st.lists(st.tuples(keys, values), min_size=1, max_size=4), tag=st.sampled_from(WORDS)
)
def test_any_attributes_mean_what_a_file_means(
    project: Path, prompts: list[tuple[str, str]], tag: str
) -> None:
    body = f"{HEAD}tags: {{a: {tag}}}\nprompts: {flow(prompts)}\n"
    assert as_attributes(project, body) == in_a_file(project, body)


def test_a_template_of_dagster_is_filled_in_outside_of_prompts(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_CRON", "0 6 * * *")
    monkeypatch.setenv("OTHER_USD", "2.5")
    write_defs(
        project,
        "winter",
        f"{HEAD}prompts: {{a: '{{{{x}}}}'}}\nschedule: {{cron: \"{{{{ env.OTHER_CRON }}}}\"}}\n"
        'budget: {usd_per_run: "{{ env.OTHER_USD }}"}\ntags: {a: "x{{ 1 + 1 }}"}\n',
    )
    (loaded,) = load_sets(project)
    found = loaded.prompt_set
    assert found.schedule is not None
    assert found.schedule.cron == "0 6 * * *"
    assert found.budget.usd_per_run == 2.5
    assert found.tags == {"a": "x2"}
    assert [request.input["prompt"] for request in found.requests()] == ["{x}"]


def test_templates_that_cant_be_filled_in_are_mistakes_with_their_lines(project: Path) -> None:
    write_defs(
        project,
        "winter",
        f'{HEAD}owners: ["{{{{ env.OTHER_NO }}}}", "{{{{ nothing }}}}", "{{{{ 1 + }}}}"]\n'
        'prompts:\n  a: "a {{ env.HOME }}"\n  a: b\n',
    )
    found = [(each.line, each.key, each.message.partition(":")[0]) for each in problems(project)]
    assert found == [
        (4, "owners.0", "{{ env.OTHER_NO }} gives nothing"),
        (4, "owners.1", "UndefinedError"),
        (4, "owners.2", "jinja2.exceptions.TemplateSyntaxError"),
        (6, "prompts.a", "{{ env.HOME }} is not filled in"),
        (7, "prompts.a", 'duplicate key "a"'),
    ]


def test_attributes_that_stand_twice_are_a_mistake(project: Path) -> None:
    path = write_defs(project, "winter", f"{HEAD}prompts: {{a: a}}")
    with path.open("a") as file:
        file.write(f"attributes:\n  {HEAD}  prompts: {{b: b}}\n")
    (problem,) = problems(project)
    assert (problem.path, problem.line) == (str(path), 6)
    assert "stands twice" in problem.message


def test_yaml_that_dagster_reads_beside_the_attributes_is_left_to_it(project: Path) -> None:
    path = write_defs(project, "winter", f"{HEAD}prompts: {{a: a}}")
    path.write_text(
        "post_processing:\n  assets:\n"
        "    - {target: '*', attributes: &x {tags: {a: b}}}\n    - {target: '*', attributes: *x}\n"
        + path.read_text()
    )
    images = load(project).resolve_asset_graph().get(dg.AssetKey(["winter", "images"]))
    assert images.tags["a"] == "b"


def test_editors_get_the_form_of_the_file() -> None:
    schema = PromptSetAttributes.model_json_schema()
    form = json_schema()
    assert set(schema["properties"]) == {"path", "name", *form["properties"]}
    assert "$ref" not in str(schema)
    assert len(schema["allOf"]) == len(form["allOf"])
    assert PromptSetAttributes.model_json_schema() == schema


@pytest.fixture(scope="module")
def validator() -> Any:
    """Made once: the schema is large, and is itself checked first."""
    schema = PromptSetAttributes.model_json_schema()
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema)


@pytest.mark.parametrize("body", TABLE)
def test_the_schema_takes_what_loads(tmp_path: Path, body: str, validator: Any) -> None:
    """As dg check yaml does it: against the values that Dagster's YAML gives."""
    if isinstance(in_a_file(tmp_path, HEAD + body), list):
        return
    validator.validate(parse_yaml_with_source_position(HEAD + body).value)


def test_an_edit_of_one_component_leaves_the_others_of_its_file_as_they_are(project: Path) -> None:
    def versions(second: str) -> list[str]:
        bodies = (
            f"name: a\n{HEAD}prompts: {{a: a}}\n",
            f"name: b\n{HEAD}prompts: {{b: {second}}}\n",
        )
        write_defs(project, "winter", *bodies)
        return [each.prompt_set.config_sha256 for each in load_sets(project)]

    before, after = versions("b"), versions("c")
    assert before[0] == after[0]
    assert before[1] != after[1]
