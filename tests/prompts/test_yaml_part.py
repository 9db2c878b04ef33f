"""One key's value is read out of a file that holds more, in the lines in which it stands."""

import pytest

from flux_pipeline.errors import ConfigError
from flux_pipeline.prompts.yaml_document import Document, YamlSection, parse_yaml

TEXT = b"""\
# a note
type: x
other: {a: &anchor 1, attributes: {b: *anchor}}
attributes:
  a: no
  b: [16:9, {c: 010}]
  a: 2
---

# another
attributes: {a: !!str x}
---
{? [a, key] : b, attributes: d}
--- {attributes: {e: f}}
...
---
attributes:
  g: h
attributes:
  i: j
"""


def part(line: int) -> Document:
    return parse_yaml(TEXT, "defs.yaml", YamlSection(line, "attributes"))


def test_a_part_is_read_as_if_it_stood_alone() -> None:
    found = part(2)
    assert found.value == {"a": "no", "b": ["16:9", {"c": "010"}]}
    assert found.line("b", "1", "c") == 6
    assert [(each.line, each.key) for each in found.duplicates] == [(7, "a")]
    assert part(14).value == {"e": "f"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (11, "defs.yaml:11: a: the tag"),
        (13, "defs.yaml:13: holds a single value"),
        (17, "defs.yaml:20: stands twice"),
        (3, "defs.yaml: is empty"),
    ],
)
def test_a_part_that_is_none_is_told(line: int, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        part(line)
    assert str(raised.value).startswith(said)
