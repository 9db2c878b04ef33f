"""Servers without conditional writes: refused, and with one writer written all the same."""

import hashlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

import pytest

from flux_pipeline.errors import StoreError
from flux_pipeline.store.base import Store
from flux_pipeline.store.open import open_store
from flux_pipeline.store.s3 import S3Store
from flux_pipeline.store_options import StoreOptions
from tests.servers.s3 import S3Server
from tests.servers.s3_proxy import Reply, S3Proxy, Seen, s3_error, s3_proxy
from tests.store.conftest import Open, OpenWith
from tests.store.contract import WEBP, PutNewContract, StoreContract
from tests.store.pictures import IDS
from tests.store.pictures import put as put_at

ONE = StoreOptions(writers="one")
put = partial(put_at, key="a.webp")


def refuse_conditions(reply: Reply, seen: Seen) -> Reply | None:
    return reply if "if-none-match" in seen.headers else None


class TestS3ThatIgnoresConditions(StoreContract):
    """A store of one writer does all that others do, within its process."""

    @pytest.fixture
    def store(self, proxy: S3Proxy, opened_with: OpenWith) -> Store:
        proxy.forget.add("if-none-match")
        return opened_with(ONE)

    @pytest.fixture
    def reopened(self, opened_with: OpenWith) -> Store:
        return opened_with(ONE)


class TestS3ThatRefusesConditions(PutNewContract):
    @pytest.fixture
    def store(self, proxy: S3Proxy, opened_with: OpenWith) -> Store:
        proxy.choose = partial(refuse_conditions, s3_error(501, "NotImplemented"))
        return opened_with(ONE)


def test_check_refuses_a_server_that_ignores_conditions(proxy: S3Proxy, proxied: Open) -> None:
    proxy.forget.add("if-none-match")
    store = proxied()
    with pytest.raises(StoreError, match=r"ignores If-None-Match .*set FLUX_STORE_WRITERS=one"):
        store.check()
    assert put(store, b"first")
    assert not put(store, b"second")
    assert store.get("a.webp") == b"first"


@pytest.mark.parametrize(
    "reply",
    [
        s3_error(501, "NotImplemented"),
        s3_error(400, "NotImplemented"),
        s3_error(400, "InvalidArgument"),
        Reply(501),
        Reply(405),
    ],
)
def test_a_server_that_refuses_conditions_is_named_and_one_writer_may_use_it(
    proxy: S3Proxy, opened_with: OpenWith, reply: Reply
) -> None:
    proxy.choose = partial(refuse_conditions, reply)
    with pytest.raises(StoreError, match=r"refuses If-None-Match .*set FLUX_STORE_WRITERS=one"):
        opened_with(StoreOptions()).check()
    store = opened_with(ONE)
    store.check()
    assert put(store)
    assert not put(store, b"another")
    assert store.get("a.webp") == b"picture"


def test_a_server_that_refuses_every_put_is_not_taken_for_one_without_conditions(
    proxy: S3Proxy, opened_with: OpenWith
) -> None:
    proxy.always["PUT"] = s3_error(501, "NotImplemented")
    for options in (StoreOptions(), ONE):
        with pytest.raises(StoreError, match=r"NotImplemented on PutObject; where") as refused:
            opened_with(options).check()
        assert "If-None-Match" not in str(refused.value)


def test_one_writer_uses_conditions_where_they_hold(proxy: S3Proxy, opened_with: OpenWith) -> None:
    store = opened_with(ONE)
    store.check()
    put(store)
    headers = [each for each in proxy.seen if each.method == "PUT"][-1].headers
    assert headers["if-none-match"] == "*"


def test_without_conditions_a_new_object_is_asked_for_and_then_written(
    proxy: S3Proxy, opened_with: OpenWith
) -> None:
    proxy.forget.add("if-none-match")
    store = opened_with(ONE)
    store.check()
    before = len(proxy.seen)
    put(store)
    assert [each.method for each in proxy.seen[before:]][:2] == ["HEAD", "PUT"]
    assert "if-none-match" not in proxy.seen[before + 1].headers


def test_the_last_of_two_processes_without_conditions_is_told_what_lies_there(
    proxy: S3Proxy, opened_with: OpenWith
) -> None:
    proxy.forget.add("if-none-match")
    slow, fast = opened_with(ONE), opened_with(ONE)
    slow.check()
    fast.check()

    def overtake(method: str) -> None:
        if method == "PUT":
            proxy.before_forwarding = str
            assert put(fast, b"fast")

    proxy.before_forwarding = overtake
    found, new = slow.put_new("a.webp", b"slow", content_type=WEBP, metadata={})
    assert new
    assert found.sha256 == hashlib.sha256(slow.get("a.webp")).hexdigest()


_WRITER = """
from flux_pipeline.store.open import open_store
from flux_pipeline.store_options import StoreOptions
store = open_store({uri!r}, StoreOptions(writers="one"))
store.check()
print("writing", flush=True)
store.put_new("a.webp", b"picture", content_type="image/webp", metadata={ids!r})
"""


@pytest.fixture
def own_proxy(
    s3_server: S3Server, variables: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[S3Proxy]:
    """A proxy that the processes started here find too, and that ignores conditions."""
    with s3_proxy(s3_server.endpoint) as proxy:
        proxy.forget.add("if-none-match")
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        yield proxy


@pytest.mark.parametrize("is_kept", [True, False], ids=["after the write", "before the write"])
def test_what_a_killed_writer_left_is_kept_or_written_anew(
    own_proxy: S3Proxy, bucket: str, prefix: str, is_kept: bool
) -> None:
    uri = f"s3://{bucket}/{prefix}"
    script = _WRITER.format(uri=uri, ids=IDS)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as writer:

        def kill(seen: Seen) -> Reply | None:
            if seen.method != "PUT" or not seen.path.endswith("a.webp"):
                return None
            own_proxy.choose = lambda _: None
            writer.send_signal(signal.SIGKILL)
            writer.wait()
            return Reply(reset=True, after=is_kept)

        own_proxy.choose = kill
        assert writer.wait() == -signal.SIGKILL

    store = open_store(uri, ONE)
    assert isinstance(store, S3Store)
    store.check()
    found, new = store.put_new("a.webp", b"picture", content_type=WEBP, metadata=IDS)
    assert new is not is_kept
    assert (found.sha256, found.metadata) == (hashlib.sha256(b"picture").hexdigest(), IDS)
    assert store.get("a.webp") == b"picture"
