"""Published into a bucket of a real server: by several publishers at once, and read meanwhile."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

import pytest

from flux_pipeline.store.open import open_target
from flux_pipeline.store.target import Target, TargetOptions
from tests.publish.conftest import AFTER, BEFORE, WITHOUT_HAT, Shop
from tests.publish.targets import missing_files
from tests.servers.s3 import S3Server


@pytest.fixture
def bucket_shop(shop: Shop, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Shop:
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    return replace(shop, to=f"s3://{s3_server.new_bucket()}/{uuid4().hex}")


def target_of(shop: Shop) -> Target:
    return open_target(shop.to, TargetOptions(), store_uri="file:none", default="")


def paths(shop: Shop) -> set[str]:
    return {file.path for file in target_of(shop).find()}


def test_a_bucket_is_published_changed_pruned_and_left_alone(bucket_shop: Shop) -> None:
    shop = bucket_shop
    assert shop.publish(shop.write(BEFORE)).written == 6
    report = shop.publish(shop.write(BEFORE))
    assert (report.written, report.unchanged) == (0, 6)
    target_of(shop).put("theirs.webp", b"theirs")
    target_of(shop).delete("bag-1-web.webp")
    report = shop.publish(shop.write(BEFORE, WITHOUT_HAT, prune=True))
    assert (report.written, report.unchanged, report.removed) == (1, 3, 2)
    assert paths(shop) == {
        ".index-state.json",
        "index.json",
        "index.csv",
        "theirs.webp",
        *(f"{name}-1-{end}" for name in ("shoe", "bag") for end in ("web.webp", "thumb.png")),
    }


def test_a_reader_beside_two_publishers_finds_every_file_that_the_index_names(
    bucket_shop: Shop,
) -> None:
    shop = bucket_shop
    shop.publish(shop.write(BEFORE))
    (shop.folder / "picks.csv").write_text("prompt,take\nshoe,2\nbag,1\n")
    one = shop.write(AFTER, WITHOUT_HAT, prune=True)
    other = replace(
        shop.write(BEFORE, prune=True), choice=replace(one.choice, kind="first", path=None)
    )
    is_over = threading.Event()

    def read() -> int:
        looks, target = 0, target_of(shop)
        while not is_over.is_set() or not looks:
            assert missing_files(target) == []
            looks += 1
        return looks

    with ThreadPoolExecutor(3) as pool:
        reader = pool.submit(read)
        try:
            for _ in range(2):
                for each in [pool.submit(shop.publish, named) for named in (one, other)]:
                    assert each.result(120).problems == ()
        finally:
            is_over.set()
        assert reader.result(120)
    assert missing_files(target_of(shop)) == []
    shop.publish(one)
    assert ".publish-lock" not in paths(shop)
    assert not {path for path in paths(shop) if path.startswith(("hat", "shoe-1"))}
