"""Outputs wait on disk for the store, whole or not at all, and within a bound."""

import logging
from pathlib import Path

import pytest

from flux_pipeline.produce.spool import Spool

SHA = "5" * 64


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "deep" / "spool", most_bytes=1000)


def test_nothing_is_made_before_something_is_kept(spool: Spool) -> None:
    assert not spool.exists()
    assert spool.find(SHA, "p1", 0) is None
    spool.forget(SHA, "p1", 0)
    assert len(spool) == 0
    assert not spool.folder.exists()


def test_what_is_kept_is_found_by_request_prediction_and_index_alone(spool: Spool) -> None:
    assert spool.keep(SHA, "p/1:ü", 2, b"picture")
    assert spool.exists()
    assert spool.find(SHA, "p/1:ü", 2) == b"picture"
    assert Spool(spool.folder).find(SHA, "p/1:ü", 2) == b"picture"
    others = [("6" * 64, "p/1:ü", 2), (SHA, "p2", 2), (SHA, None, 2), (SHA, "p/1:ü", 1)]
    assert [spool.find(*place) for place in others] == [None] * 4


def test_what_is_stored_is_forgotten(spool: Spool) -> None:
    spool.keep(SHA, None, 0, b"picture")
    spool.forget(SHA, None, 0)

    assert spool.find(SHA, None, 0) is None
    assert list(spool.folder.iterdir()) == []


def test_a_damaged_file_is_not_used_and_is_written_anew(spool: Spool) -> None:
    spool.keep(SHA, "p1", 0, b"picture")
    (path,) = spool.folder.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    assert spool.find(SHA, "p1", 0) is None

    assert spool.keep(SHA, "p1", 0, b"picture")
    assert spool.find(SHA, "p1", 0) == b"picture"


def test_a_full_folder_keeps_no_more_and_says_so(
    spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    assert spool.keep(SHA, "p1", 0, bytes(900))
    with caplog.at_level(logging.WARNING):
        assert not spool.keep(SHA, "p2", 0, bytes(900))

    assert "full, 900 bytes are not kept there" in caplog.text
    assert len(spool) == 1
    spool.forget(SHA, "p1", 0)
    assert spool.keep(SHA, "p2", 0, bytes(900))


def test_what_a_killed_writer_left_counts_and_is_never_found(spool: Spool) -> None:
    spool.keep(SHA, "p1", 0, b"picture")
    (path,) = spool.folder.iterdir()
    path.rename(path.with_name(f"{path.name}.1.part"))
    assert spool.find(SHA, "p1", 0) is None
    assert len(spool) == 0

    assert not spool.keep(SHA, "p1", 0, bytes(970))


def test_a_folder_that_can_not_be_written_keeps_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "spool").write_text("a file where the folder should be")
    spool = Spool(tmp_path / "spool")
    with caplog.at_level(logging.WARNING):
        assert not spool.keep(SHA, "p1", 0, b"picture")

    assert "can't be written" in caplog.text
    assert not spool.exists()


def test_what_another_process_keeps_is_seen_after_a_second(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("flux_pipeline.produce.spool.time.monotonic", lambda: now)
    assert not spool.exists()
    assert Spool(spool.folder).keep(SHA, "p1", 0, b"picture")
    assert not spool.exists()

    now = 101.1

    assert spool.exists()
