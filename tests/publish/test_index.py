"""The index is written line by line, and read whoever has formatted it since."""

import json

import pytest

from flux_pipeline.errors import StoreError
from flux_pipeline.publish.index import FILE_COLUMNS, PICTURE_COLUMNS, Entry, Index, read_index
from flux_pipeline.publish.scratch import Scratch, spooled


def entry(name: str) -> Entry:
    file = {**dict.fromkeys(FILE_COLUMNS, 1), "path": f"{name}.webp"}
    return Entry.of({**dict.fromkeys(PICTURE_COLUMNS, "x"), "name": name, "files": [file]})


def index(*names: str) -> Index:
    found = Index("shop", Scratch(), "2026-11-30T08:00:00Z")
    for name in names:
        found.add(entry(name))
    return found


def read(body: bytes) -> Index:
    with spooled([body]) as file:
        return read_index("index.json", file, "shop")


@pytest.mark.parametrize("names", [(), ("hat",), ("shoe", "hat", "帽子")])
def test_an_index_is_one_json_object_and_read_again_as_it_was(names: tuple[str, ...]) -> None:
    body = b"".join(index(*names).body())
    assert [each["name"] for each in json.loads(body)["images"]] == list(names)
    for formatted in (body, json.dumps(json.loads(body), indent=2).encode()):
        again = read(formatted)
        assert b"".join(again.body()) == body
        assert again.has_same_entries(index(*names))
        assert dict(again.paths) == {f"{name}.webp": name for name in names}


def test_another_order_or_another_number_of_entries_is_another_index() -> None:
    two = index("hat", "shoe")
    assert not two.has_same_entries(index("shoe", "hat"))
    assert not two.has_same_entries(index("hat"))
    assert not index("hat").has_same_entries(two)


@pytest.mark.parametrize("column", ["alt", "made_at", "placeholder", "sha256", "path"])
def test_an_entry_in_which_something_is_missing_is_no_index_of_ours(column: str) -> None:
    body = b"".join(index("hat").body())
    with pytest.raises(StoreError, match="is no index of published pictures"):
        read(body.replace(f'"{column}"'.encode(), b'"other"'))
