from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.lineage.record import object_metadata
from flux_pipeline.store.base import check_metadata
from flux_pipeline.store.local import FolderStore
from tests.lineage.samples import a_failure, a_record, digest


def test_ids_and_nothing_else_travel_with_an_object() -> None:
    assert object_metadata(a_record()) == {
        "image-sha256": digest("image a"),
        "file-sha256": digest("file a"),
        "prediction-id": "prediction-a",
        "output-index": "0",
        "request-sha256": digest("request a"),
        "run-id": "run-1",
        "config-sha256": digest("config"),
        "seed": "7",
    }


def test_what_is_not_known_is_left_out() -> None:
    found = object_metadata(a_failure(seed=None, config_sha256=""))
    assert set(found) == {"output-index", "request-sha256", "run-id"}


def test_a_seed_of_zero_is_known() -> None:
    assert object_metadata(a_record(seed=0))["seed"] == "0"


@settings(deadline=None)
@given(st.integers(-(2**63), 2**63 - 1), st.text("az09-", min_size=1, max_size=255))
def test_a_store_takes_them(seed: int, prediction_id: str) -> None:
    check_metadata("image/webp", object_metadata(a_record(seed=seed, prediction_id=prediction_id)))


def test_they_come_back_from_a_store(store: FolderStore) -> None:
    metadata = object_metadata(a_record())
    store.put_new("a.webp", b"", content_type="image/webp", metadata=metadata)
    found = store.head("a.webp")
    assert found is not None
    assert found.metadata == metadata
