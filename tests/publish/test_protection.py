"""What was chosen or is published stays."""

from pathlib import Path

import pytest

from flux_pipeline.errors import StoreError
from flux_pipeline.prompts import load_prompt_sets
from flux_pipeline.publish.index import PICTURE_COLUMNS, Entry, Index
from flux_pipeline.publish.protection import find_protected
from flux_pipeline.publish.scratch import Scratch
from flux_pipeline.store.open import open_store

SET = """
model: lucataco/flux-schnell-lora
prompts: {king: a king}
choose: picks/tale.csv
publish:
  name: "{name}-{variant}.{format}"
  variants: {small: {width: 100}}
"""
HASH = "ab" * 32


def test_picks_and_the_published_index_protect_their_pictures(tmp_path: Path) -> None:
    (tmp_path / "tale.yaml").write_text(SET)
    (prompt_set,) = load_prompt_sets(tmp_path)
    store = open_store(f"file:{tmp_path}/store")
    assert find_protected(store, [prompt_set]) == {}

    picks = prompt_set.choice.path
    assert picks
    picks.parent.mkdir()
    picks.write_text(f"prompt,take,output,image_sha256\nking,1,1,{HASH}\n")
    assert find_protected(store, [prompt_set]) == {HASH: f"chosen in {picks}"}

    request = "cd" * 32
    values = dict.fromkeys(PICTURE_COLUMNS, "")
    entry = Entry.of({**values, "name": "king", "request_sha256": request, "files": []})
    published = Index("tale", Scratch(), "2026-11-01T12:00:00Z")
    published.add(entry)
    index = tmp_path / "store/published/tale/index.json"
    index.parent.mkdir(parents=True)
    index.write_bytes(b"".join(published.body()))
    found = find_protected(store, [prompt_set])
    assert found[request].startswith("published, see file:///")

    index.write_text("not an index")
    with pytest.raises(StoreError, match="is no index of published pictures"):
        find_protected(store, [prompt_set])
