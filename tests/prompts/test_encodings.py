"""Tables in another encoding than UTF-8 are one message that names it and says what to do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.prompts.encodings import describe_encoding
from tests.prompts.fixtures import ProblemsOf, Write

CHINESE = "名称,提示词\n红杯子,一个红色的杯子放在木桌上\n绿杯子,a green mug 在窗边\n"
LATIN = "name,prompt\nred,a red mug on a table\n"


@pytest.mark.parametrize("ending", ["csv", "tsv", "txt", "jsonl", "json"])
@pytest.mark.parametrize(
    "case",
    [
        (LATIN, "utf-16", "is UTF-16: save as UTF-8"),
        (CHINESE, "utf-16", "is UTF-16: save as UTF-8"),
        (LATIN, "utf-32", "is UTF-32: save as UTF-8"),
        (LATIN, "utf-16-le", "is UTF-16 without a byte order mark"),
        (LATIN, "utf-16-be", "is UTF-16 without a byte order mark"),
        (CHINESE, "gbk", "is GBK by its bytes"),
        (CHINESE, "gb18030", "is GBK by its bytes"),
    ],
)
def test_one_message_names_the_encoding(
    write: Write, problems: ProblemsOf, ending: str, case: tuple[str, str, str]
) -> None:
    text, encoding, name = case
    write(f"t.{ending}", (text * 50).encode(encoding))
    (problem,) = problems(f'prompts: {{p: {{prompt: "{{name}}", table: t.{ending}}}}}\n')
    assert problem.key == "prompts.p.table"
    assert f"t.{ending}: {name}" in problem.message
    assert "save as" in problem.message


@given(st.text())
def test_utf_8_is_never_taken_for_another(text: str) -> None:
    wide = text.replace("\0", "").replace("\r", "") + "name\n"
    assert describe_encoding(wide.encode("utf-8", "replace")) == ""


@pytest.mark.parametrize(
    "data",
    [
        b"name\ncaf\xe9\nna\xefve\n",
        "名称\n红杯子\n".encode() + b"caf\xe9 x\n",
        CHINESE.encode()[:-2],
        b"",
    ],
)
def test_a_file_with_single_bad_rows_is_left_to_its_rows(data: bytes) -> None:
    assert describe_encoding(data) == ""
