"""Everything that is wrong is said at once: no mistake hides another."""

from pathlib import Path

import pytest

from flux_pipeline.errors import ConfigError
from flux_pipeline.prompts import load_prompt_sets

TEN_MISTAKES = """\
description: Ten mistakes
model: lucataco/flux-schnell-laura
defualts: {aspect_ratio: 16:9}
defaults: {num_outputs: 5, output_format: gif}
prompts:
  a: ""
  b: {prompt: "x", num_inference_steps: 13}
  c: {prompt: "a {animal}"}
  c: {prompt: "again"}
  d: {prompt: "y", table: missing.csv}
schedule: {cron: "61 * * * *", timezone: Mars/Olympus}
"""


def test_an_unknown_model_and_a_duplicate_key_hide_nothing(tmp_path: Path) -> None:
    (tmp_path / "ten.yaml").write_text(TEN_MISTAKES)
    (tmp_path / "eleven.yaml").write_text("prompts: {a: {}}\n")

    with pytest.raises(ConfigError) as error:
        load_prompt_sets(tmp_path)

    found = {(Path(p.path).stem, p.line, p.key) for p in error.value.problems}
    assert found == {
        ("ten", 2, "model"),
        ("ten", 3, "defualts"),
        ("ten", 4, "defaults.num_outputs"),
        ("ten", 4, "defaults.output_format"),
        ("ten", 6, "prompts.a.prompt"),
        ("ten", 7, "prompts.b.num_inference_steps"),
        ("ten", 8, "prompts.c.prompt"),
        ("ten", 9, "prompts.c"),
        ("ten", 10, "prompts.d.table"),
        ("ten", 11, "schedule.cron"),
        ("ten", 11, "schedule.timezone"),
        ("eleven", 0, "model"),
        ("eleven", 1, "prompts.a.prompt"),
    }
