"""The examples for a bucket in docs/lineage.md are run on one: pandas, and DuckDB with pyarrow."""

from importlib.util import find_spec

import pytest

from flux_pipeline.lineage.parts import write_part
from flux_pipeline.lineage.table import compact
from flux_pipeline.store.open import open_store
from tests import documents
from tests.documents import Block
from tests.lineage.samples import NOON, a_failure, a_record

BLOCKS = [
    block for block in documents.blocks("python", "docs/lineage.md") if "my-bucket" in block.text
]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_table_in_a_bucket_is_read_as_shown(
    bucket: str, block: Block, capsys: pytest.CaptureFixture[str]
) -> None:
    if "import duckdb" in block.text and find_spec("duckdb") is None:
        pytest.skip("needs duckdb: uv sync")
    store = open_store(f"s3://{bucket}/pictures")
    where = {"asset": "winter/images", "partition": "castle", "run_id": "run-1"}
    write_part(store, [a_record("one"), a_failure("two")], day=NOON.date(), **where)
    compact(store)
    text = block.text.replace("my-bucket", bucket)
    exec(compile(text, block.document, "exec"), {})  # noqa: S102  our own documents
    shown = capsys.readouterr().out
    assert "prompt-one" in shown or "winter" in shown


def test_both_are_shown() -> None:
    shown = "\n".join(block.text for block in BLOCKS)
    assert "read_lineage(" in shown
    assert "import duckdb" in shown
