"""Specs: what the UI knows of a prompt set before anything was made, all from its file."""

from collections.abc import Mapping
from pathlib import Path

import dagster as dg
import pytest

from flux_pipeline.defs.build import without_beta_warnings
from flux_pipeline.defs.specs import build_specs
from flux_pipeline.prompts import build_prompt_set, load_prompt_set

MODEL = "lucataco/flux-schnell-lora"


def specs(folder: Path, text: str, head: str = f"model: {MODEL}\n") -> Mapping[str, dg.AssetSpec]:
    path = folder / "winter.yaml"
    path.write_text(head + text)
    with without_beta_warnings():
        return {spec.key.path[1]: spec for spec in build_specs(load_prompt_set(path))}


def test_the_three_assets_follow_each_other_in_one_group(tmp_path: Path) -> None:
    found = specs(tmp_path, "prompts: {a: a}")
    assert list(found) == ["prompts", "images", "gallery"]
    assert {spec.group_name for spec in found.values()} == {"winter"}
    deps = {name: [dep.asset_key.path[1] for dep in spec.deps] for name, spec in found.items()}
    assert deps == {"prompts": [], "images": ["prompts"], "gallery": ["images"]}
    assert found["prompts"].partitions_def == found["images"].partitions_def
    assert found["gallery"].partitions_def is None


def test_owners_tags_and_kinds_arrive(tmp_path: Path) -> None:
    found = specs(
        tmp_path,
        'owners: ["team:studio", a@example.com]\ntags: {campaign: winter}\nprompts: {a: a}',
    )
    for spec in found.values():
        assert list(spec.owners) == ["team:studio", "a@example.com"]
        assert spec.tags["campaign"] == "winter"
    assert [spec.kinds for spec in found.values()] == [{"yaml"}, {"image"}, {"html"}]


def test_code_references_name_the_line_in_the_file(tmp_path: Path) -> None:
    found = specs(tmp_path, "# a comment\n\ndescription: d\nprompts:\n  a: a\n")
    lines = {}
    for name, spec in found.items():
        (reference,) = spec.metadata["dagster/code_references"].code_references
        assert isinstance(reference, dg.LocalFileCodeReference)
        assert reference.file_path == str(tmp_path / "winter.yaml")
        lines[name] = reference.line_number
    assert lines == {"prompts": 5, "images": 1, "gallery": 4}


def test_without_a_file_there_is_no_code_reference() -> None:
    winter = build_prompt_set("winter", {"model": MODEL, "prompts": {"a": "a"}})
    for spec in build_specs(winter):
        assert "dagster/code_references" not in spec.metadata


def test_only_the_prompts_change_with_the_file(tmp_path: Path) -> None:
    before = specs(tmp_path, "prompts: {a: a}")
    after = specs(tmp_path, "prompts: {a: b}")
    changed = [name for name in before if before[name].code_version != after[name].code_version]
    assert changed == ["prompts"]


def test_model_version_and_warnings_are_shown(tmp_path: Path) -> None:
    metadata = specs(tmp_path, "prompts: {a: the same, b: the same}")["prompts"].metadata
    assert metadata["flux/model"] == MODEL
    assert len(metadata["flux/version"]) == 16
    assert len(metadata["flux/config_sha256"]) == 16
    quiet = specs(tmp_path, "prompts: {a: a}")["prompts"].metadata
    assert "flux/warnings" not in quiet


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Winter campaign", "Winter campaign."),
        ("Is it winter?", "Is it winter?"),
        ("![x](http://x)", "\\!\\[x\\]\\(http://x\\)"),
        ("<script>", "&lt;script\\>"),
        ("a & b", "a &amp; b."),
        ("# big", "\\# big."),
        ("*bold* `code` ~no~ a|b", "\\*bold\\* \\`code\\` \\~no\\~ a\\|b."),
        ("turn\u202eed", "turn\\\\u202eed."),
    ],
)
def test_a_description_is_shown_as_text(tmp_path: Path, text: str, shown: str) -> None:
    (tmp_path / "winter.yaml").write_text("")
    found = specs(tmp_path, f"description: '{text}'\nprompts: {{a: a}}")
    for name in ("prompts", "images", "gallery"):
        assert (found[name].description or "").split("\n")[0] == shown


def test_nothing_starts_by_itself_unless_the_file_says_so(tmp_path: Path) -> None:
    for spec in specs(tmp_path, "prompts: {a: a}").values():
        assert spec.automation_condition is None
    for spec in specs(tmp_path, "automation: on_change\nprompts: {a: a}").values():
        assert spec.automation_condition is not None
