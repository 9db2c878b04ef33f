"""What is kept on disk behaves as what is kept in memory, and a full disk is said."""

import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.errors import StoreError
from flux_pipeline.publish.scratch import DiskList, Scratch, spooled

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(["set", "add", "del"]), NAMES, NAMES), max_size=20))
def test_a_mapping_on_disk_is_a_dict(steps: list[tuple[str, str, str]]) -> None:
    ours, plain = Scratch().texts(), dict[str, str]()
    for step, name, value in steps:
        if step == "set":
            ours[name] = plain[name] = value
        elif step == "add":
            assert ours.add(name, value) is (name not in plain)
            plain.setdefault(name, value)
        else:
            ours.remove_all([name])
            plain.pop(name, None)
        assert (ours.get(name), name in ours) == (plain.get(name), name in plain)
    assert list(ours.pairs()) == list(ours.items()) == list(plain.items())
    assert list(ours.sorted_pairs()) == sorted(plain.items())
    assert len(ours) == len(plain)


def test_a_name_that_is_not_there_is_a_key_error_as_in_a_dict() -> None:
    texts = Scratch().texts()
    with pytest.raises(KeyError, match="nothing"):
        texts["nothing"]
    with pytest.raises(KeyError, match="nothing"):
        del texts["nothing"]


def test_one_mapping_may_be_read_while_another_one_of_the_same_database_is_filled() -> None:
    scratch = Scratch()
    one, other = scratch.texts(), DiskList(scratch, str, str)
    one.add_all((str(number), "x") for number in range(100))
    for name in one:
        other.append(name)
    assert list(other) == list(one)
    assert len(other) == 100


def test_a_full_disk_for_temporary_files_is_named() -> None:
    scratch = Scratch()
    scratch.execute("PRAGMA max_page_count = 4")
    lines = scratch.lines()
    with pytest.raises(StoreError, match=r"temporary files .* full.*: free some space .* TMPDIR"):
        lines.add_all((str(number), bytes(1000)) for number in range(100))


def test_bytes_are_spooled_and_a_folder_that_is_gone_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with spooled(iter([b"one", b"two"])) as file:
        file.seek(0)
        assert file.read() == b"onetwo"
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(StoreError, match=r"temporary files can't be written .*/nowhere"), spooled():
        pass
