from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from flux_pipeline.errors import StoreError
from flux_pipeline.lineage.asked import (
    ASKED,
    KILLED_AFTER,
    AskedRequests,
    asking,
    read_asked,
    runs_asking,
    short_fingerprint,
)
from flux_pipeline.lineage.frame import read_lineage
from flux_pipeline.lineage.parts import write_part
from flux_pipeline.store.base import Store
from flux_pipeline.store.open import open_store
from tests.lineage.samples import NOON, a_record, digest

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


class Asking(NamedTuple):
    request_sha256: str


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"file:{tmp_path}")


def note(
    store: Store,
    minute: int,
    partitions: Mapping[str, Sequence[str]],
    known: Sequence[str] | None,
    prompt_set: str = "winter",
) -> None:
    """Note what a run has read, that many minutes after the first one."""
    noted = AskedRequests()
    asked = ((key, [Asking(digest(word)) for word in words]) for key, words in partitions.items())
    for _, requests in noted.watch(asked):
        list(requests)
    now = NOW + timedelta(minutes=minute)
    noted.write(store, prompt_set, known=known, run_id=f"run-{minute}", now=now)


def current(store: Store, *words: str, prompt_set: str = "winter") -> list[bool | None]:
    shas = [digest(word) for word in words]
    return read_asked(store).are_current(shas, [prompt_set] * len(shas), [""] * len(shas))


def test_an_edit_makes_an_image_obsolete_and_taking_it_back_makes_it_current_again(
    store: Store,
) -> None:
    note(store, 1, {"a": ["castle"], "b": ["moon"]}, ["a", "b"])
    assert current(store, "castle", "moon") == [True, True]

    note(store, 2, {"a": ["green castle"]}, ["a", "b"])
    assert current(store, "castle", "green castle", "moon") == [False, True, True]

    note(store, 3, {"a": ["castle"]}, ["a", "b"])
    assert current(store, "castle", "green castle", "moon") == [True, False, True]


def test_the_images_of_a_prompt_that_is_removed_are_obsolete(store: Store) -> None:
    note(store, 1, {"a": ["castle"], "b": ["moon"]}, ["a", "b"])
    note(store, 2, {"a": ["castle"]}, ["a"])

    assert current(store, "castle", "moon") == [True, False]


def test_objects_that_are_older_than_all_that_is_current_are_not_read(
    store: Store, tmp_path: Path
) -> None:
    note(store, 1, {"a": ["castle"]}, ["a", "b"])
    for path in (tmp_path / ASKED).rglob("*.parquet"):
        path.write_bytes(b"can't be read any more")
    note(store, 2, {"a": ["castle"]}, ["a", "b"])
    with pytest.raises(StoreError, match="can't be read"):
        current(store, "castle")
    note(store, 3, {"b": ["moon"]}, ["a", "b"])
    assert current(store, "castle", "moon", "sun") == [True, True, False]


def test_a_day_keeps_what_it_asked_for_when_it_was_read_last(store: Store) -> None:
    note(store, 1, {"2026-11-01": ["first"]}, None)
    note(store, 2, {"2026-11-02": ["second"]}, None)

    assert current(store, "first", "second") == [True, True]


def test_a_picture_that_another_set_asks_for_too_is_current(store: Store) -> None:
    note(store, 1, {"a": ["castle"]}, ["a"])
    note(store, 2, {"a": ["castle"]}, ["a"], prompt_set="summer")
    note(store, 3, {"a": ["edited"]}, ["a"])

    assert current(store, "castle") == [True]


def test_what_is_asked_of_a_set_has_another_version_where_an_image_may_be_another_ones(
    store: Store,
) -> None:
    def version(prompt_set: str = "winter") -> str:
        return read_asked(store).version_for(prompt_set)

    nothing = version()
    note(store, 1, {"a": ["castle"], "b": ["moon"]}, ["a", "b"])
    first = version()
    assert first not in {nothing, version("unread")}
    note(store, 2, {"b": ["moon"]}, ["a", "b"])
    assert version() == first
    note(store, 3, {"b": ["sun"]}, ["a", "b"])
    assert version() != first
    note(store, 4, {"2026-11-01": ["castle"]}, None, "daily")
    before = version("daily")
    note(store, 5, {"2026-11-02": ["castle"]}, None, "daily")
    assert version("daily") != before


def test_nothing_is_said_of_a_set_that_no_run_has_read(store: Store) -> None:
    assert current(store, "castle", prompt_set="older") == [None]


def test_the_table_has_it_as_a_column_and_as_a_filter(store: Store) -> None:
    rows = [
        a_record(word, request_sha256=digest(word), prompt_set="winter", partition="a")
        for word in ("castle", "moon")
    ]
    write_part(store, rows, asset="winter/images", partition="a", run_id="r", day=NOON.date())
    note(store, 1, {"a": ["castle"]}, ["a"])

    whole = read_lineage(store)
    by_request = dict(zip(whole["request_sha256"], whole["current"], strict=True))
    assert by_request == {digest("castle"): True, digest("moon"): False}
    assert list(read_lineage(store, current=True)["request_sha256"]) == [digest("castle")]
    obsolete = read_lineage(store, current=False, columns=["prompt_name", "request_sha256"])
    assert list(obsolete.columns) == ["prompt_name", "request_sha256"]
    assert list(obsolete["request_sha256"]) == [digest("moon")]


def test_an_object_that_can_not_be_read_is_named(store: Store) -> None:
    note(store, 1, {"a": ["castle"]}, ["a"])
    (key,) = store.list(ASKED)
    store.put(key, b"no table", content_type="application/vnd.apache.parquet")

    with pytest.raises(StoreError, match="asked/winter/whole-"):
        read_asked(store)


def test_a_day_that_was_not_read_since_this_was_written_down_is_not_known(store: Store) -> None:
    note(store, 1, {"2026-11-02": ["castle"]}, None)
    asked = read_asked(store)
    days = ["2026-11-01", "2026-11-02"]
    assert asked.are_current([digest("moon")] * 2, ["winter"] * 2, days) == [None, False]


def test_a_run_says_that_it_is_asking_until_it_ends(store: Store) -> None:
    with asking(store, "winter", run_id="run-1", now=NOW):
        (run,) = runs_asking(store, now=NOW + timedelta(hours=1))
        assert (run.prompt_set, run.run_id, run.since) == ("winter", "run-1", NOW)
        assert store.head(run.uri.removeprefix(f"{store.uri}/"))
        note(store, 1, {"a": ["castle"]}, ["a"])
        assert current(store, "castle") == [True]
    assert runs_asking(store, now=NOW) == []
    assert current(store, "castle") == [True]


def test_a_run_that_may_not_delete_says_otherwise_that_it_ended(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_self: object, key: str) -> None:
        raise StoreError(f"{key}: AccessDenied on DeleteObject")

    monkeypatch.setattr(type(store), "delete", refuse)
    with asking(store, "winter", run_id="run-1", now=NOW):
        assert len(runs_asking(store, now=NOW)) == 1
    assert runs_asking(store, now=NOW) == []


def test_a_run_that_was_killed_is_believed_to_ask_for_some_days(store: Store) -> None:
    stopped = asking(store, "winter", run_id="run-1", now=NOW)
    stopped.__enter__()  # and never left
    assert len(runs_asking(store, now=NOW + timedelta(days=1))) == 1
    assert runs_asking(store, now=NOW + KILLED_AFTER) == []


def test_the_fingerprints_of_all_partitions_are_joined() -> None:
    noted = AskedRequests()
    words = {"a": ["castle", "moon"], "b": [], "c": ["moon"]}
    for _, requests in noted.watch(
        (key, map(Asking, map(digest, each))) for key, each in words.items()
    ):
        list(requests)
    expected = sorted({short_fingerprint(digest(word)) for word in ("castle", "moon")})
    assert noted.fingerprints().tolist() == expected
    assert AskedRequests().fingerprints().tolist() == []
