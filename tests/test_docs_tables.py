"""What the documents list is what there is: settings, commands, columns, states, names."""

import re
import tomllib
from dataclasses import fields
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import click
import pytest

from flux_pipeline import settings
from flux_pipeline.audit.findings import Kind
from flux_pipeline.cli import _COMMANDS
from flux_pipeline.cli.emulator import emulator
from flux_pipeline.definitions import defs
from flux_pipeline.defs import checks
from flux_pipeline.defs.published_checks import PUBLISHED_CHECKS
from flux_pipeline.emulator import faults
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.usage import Usage
from flux_pipeline.ledger.base import State
from flux_pipeline.lineage.schema import SCHEMA
from flux_pipeline.lineage.spend import SPEND_SCHEMA
from flux_pipeline.models import find_model
from flux_pipeline.prompts.schema import (
    PromptSchema,
    PromptSetSchema,
    PublishSchema,
    VariantSchema,
)
from tests import documents
from tests.documents import DOCUMENTS, names, table

CONFIGURATION = "docs/configuration.md"
VARIABLES = [*settings.VARIABLES, settings.KEY_VARIABLES[0]]


@pytest.mark.parametrize("document", ["README.md", CONFIGURATION])
def test_settings_are_listed_with_their_defaults(document: str) -> None:
    rows = table(document, "variable", "default", "meaning")
    assert {name: value for name, value, _ in rows} == default_settings()


def test_the_example_of_an_environment_holds_every_setting_at_its_default() -> None:
    text = documents.read(".env.example")
    given = dict(re.findall(r"^(?:# )?([A-Z0-9_]+)=(.*)$", text, re.MULTILINE))
    assert given == default_settings()
    # Copied whole it must not fix the address of a web interface that `make ui PORT=` moves.
    assert "FLUX_UI_URL" not in re.findall(r"^([A-Z0-9_]+)=", text, re.MULTILINE)
    assert settings.Settings.from_environment(given) == settings.Settings(ledger_given=True)


def default_settings() -> dict[str, str]:
    defaults = {field.name: field.default for field in fields(settings.Settings)}
    values = {name: defaults[field] for name, (field, _) in settings.VARIABLES.items()}
    return {name: written(value) for name, value in values.items()} | {
        settings.KEY_VARIABLES[0]: ""
    }


def written(value: Any) -> str:
    """A default as it would stand in a variable."""
    match value:
        case None:
            return ""
        case float():
            return f"{value:g}"
        case tuple():
            return ",".join(value)
    return str(value)


def test_every_variable_that_is_named_exists() -> None:
    for document in DOCUMENTS:
        named = set(re.findall(r"\bFLUX_[A-Z0-9_]+\b", documents.without_changes(document)))
        assert named <= set(VARIABLES), document


def test_commands_are_listed() -> None:
    rows = table("README.md", "command", "what it does", "exit code 1")
    assert [row[0].split()[1] for row in rows] == list(_COMMANDS)


def test_keys_of_a_prompt_set_are_listed() -> None:
    text = documents.read("docs/prompt-sets.md")
    for form in (PromptSetSchema, PromptSchema):
        for name in form.model_fields:
            assert f"\n| `{name}` | " in text


def test_keys_of_publish_and_of_its_variants_are_listed() -> None:
    for form, heading in (
        (PublishSchema, "key"),
        (VariantSchema, "key of a variant"),
    ):
        rows = table("docs/publishing.md", heading, "is", "if left out")
        listed = [name for row in rows for name in row[0].split(", ")]
        assert listed == list(form.model_fields), heading


def test_inputs_of_the_model_are_listed_with_their_defaults() -> None:
    model = find_model("lucataco/flux-schnell-lora")
    rows = {row[0]: row[-1] for row in table("docs/prompt-sets.md", "input", "allowed", "default")}
    shown = {None: "none", False: "false"}
    expected = {
        name: shown.get(field.default, str(field.default))
        for name, field in model.fields.items()
        if name != "prompt"
    }
    assert rows == expected | {"seed": "derived"}


def test_columns_of_the_lineage_table_are_listed() -> None:
    rows = table("docs/lineage.md", "column", "type", "null", "unit", "meaning")
    expected = [
        [
            field.name,
            str(field.type),
            "yes" if field.nullable else "no",
            (field.metadata or {}).get(b"unit", b"").decode(),
        ]
        for field in SCHEMA
    ]
    assert [row[:4] for row in rows] == expected


def test_columns_of_spend_are_listed() -> None:
    rows = table("docs/lineage.md", "column", "type", "unit", "meaning")
    expected = [
        [field.name, str(field.type), (field.metadata or {}).get(b"unit", b"").decode()]
        for field in SPEND_SCHEMA
    ]
    assert [row[:3] for row in rows] == expected


def test_states_and_findings_are_listed() -> None:
    states = table("docs/reliability.md", "state", "meaning", "next")
    assert [row[0] for row in states] == [state.value for state in State]
    findings = table("docs/reliability.md", "finding", "meaning")
    assert [row[0] for row in findings] == [kind.value for kind in Kind]


def test_what_the_emulator_offers_is_listed() -> None:
    document = "docs/emulator.md"
    options, faulty, ledger, command = (
        [row[0] for row in table(document, *heading)]
        for heading in (
            ("option", "default", "meaning"),
            ("phase", "faults"),
            ("field", "meaning"),
            ("option", "default", "effect"),
        )
    )
    assert options == list(EmulatorOptions.model_fields)
    assert [phase for row in faulty for phase in names(row)] == list(get_args(faults.Phase))
    assert ledger == list(Usage.model_fields)
    given = [p.opts[0] for p in emulator.params if isinstance(p, click.Option)]
    assert command == given


def test_faults_of_every_phase_are_listed() -> None:
    kinds: list[Any] = [
        faults.CreateFault,
        faults.OutcomeFault,
        faults.CallFault,
        faults.DownloadFault,
        faults.UploadFault,
        faults.InputFault,
    ]
    rows = table("docs/emulator.md", "phase", "faults")
    assert [names(row[1]) for row in rows] == [list(get_args(kind)) for kind in kinds]
    lasting = table("docs/emulator.md", "lasting fault", "seconds count from", "meanwhile")
    listed = sorted(name for row in lasting for name in names(row[0]))
    assert listed == sorted(get_args(faults.LastingFault))


def test_jobs_schedules_and_checks_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = {"set": "schedule: {cron: 0 6 * * *}", "other": "automation: on_change"}
    for name, when in sets.items():
        text = f"model: lucataco/flux-schnell-lora\nprompts: {{fox: a fox}}\n{when}\n"
        (tmp_path / f"{name}.yaml").write_text(text)
    monkeypatch.setenv("FLUX_CONFIGS", str(tmp_path))
    repository = defs().get_repository_def()
    automated = [*repository.schedule_defs, *repository.sensor_defs]
    there = {*repository.job_names, *(each.name for each in automated)} - {"make_other"}
    there = {name.replace("_set", "_<set>") for name in there if not name.startswith("__")}
    assert {row[0] for row in table("docs/dagster.md", "name", "what")} == there
    shown = {row[0] for row in table("docs/dagster.md", "check", "holds if", "else")}
    assert shown == set(checks.CHECKS)
    rows = table("docs/publishing.md", "check on `<set>/published`", "holds if", "else")
    assert [row[0] for row in rows] == list(PUBLISHED_CHECKS)


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads(documents.read("pyproject.toml"))
    wanted = [re.split(r"[<>=\[]", each)[0] for each in project["project"]["dependencies"]]
    assert [row[0] for row in table("CONTRIBUTING.md", "package", "why")] == wanted
    text = documents.read("CONTRIBUTING.md")
    for each in chain(*project["project"]["optional-dependencies"].values()):
        assert f"`{re.split(r'[<>=[]', each)[0]}`" in text
