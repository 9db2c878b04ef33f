"""The PUTs that follow boto3's first one: the same on the wire, and boto3's where one fails."""

from collections.abc import Callable
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from flux_pipeline.store.s3 import Bucket, S3Store
from flux_pipeline.store_options import StoreOptions
from tests.servers.s3 import S3Server
from tests.servers.s3_proxy import Reply, S3Proxy, Seen, s3_error, s3_proxy
from tests.store.conftest import client_of
from tests.store.contract import WEBP

OpenWith = Callable[[StoreOptions], S3Store]
BODY = b"picture"
OF_ONE_TRY = {"amz-sdk-invocation-id", "amz-sdk-request", "x-amz-date", "authorization"}
ASKING = "expect"
"""By it boto3 waits for the server before each body; the PUTs that follow do not."""
OPTIONS = [
    StoreOptions(),
    StoreOptions(checksum="CRC32", tags="team=ads,note=a b", storage_class="STANDARD_IA"),
    StoreOptions(checksum="MD5", acl="bucket-owner-full-control", sse="AES256"),
    StoreOptions(checksum="none", request_payer="requester"),
]


def put(store: S3Store, name: str) -> None:
    metadata = {"prediction-id": "p1", "prompt-set": "a  b"}
    assert store.put_new(f"set/{name}=1.webp", BODY, content_type=WEBP, metadata=metadata)[1]


def puts(proxy: S3Proxy) -> list[dict[str, str]]:
    """The headers of the PUTs of pictures, by their names in lower case."""
    return [headers(seen) for seen in proxy.seen if seen.method == "PUT" and "set/" in seen.path]


def headers(seen: Seen) -> dict[str, str]:
    return {name.lower(): value for name, value in seen.headers.items()}


def are_boto3s(sent: list[dict[str, str]]) -> list[bool]:
    return ["amz-sdk-request" in each for each in sent]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda each: each.checksum)
def test_it_has_the_headers_that_boto3_sends_for_the_same_object(
    opened_with: OpenWith, proxy: S3Proxy, no_waiting: None, options: StoreOptions
) -> None:
    store = opened_with(options)
    store.check()
    proxy.answer_next("PUT", s3_error(503, "SlowDown"))

    put(store, "picture")

    ours, boto3s = puts(proxy)
    assert are_boto3s([ours, boto3s]) == [False, True]
    for each in (ours, boto3s):
        for name in (*OF_ONE_TRY, ASKING):
            each.pop(name, None)
    assert ours == boto3s


@pytest.mark.parametrize("token", ["", "a-session-token"])
def test_it_is_signed_as_botocore_signs(
    s3_server: S3Server, prefix: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if token:
        monkeypatch.setenv("AWS_SESSION_TOKEN", token)
    with s3_proxy(s3_server.endpoint) as proxy:
        bucket = Bucket(client_of(s3_server, proxy.endpoint), s3_server.new_bucket(), prefix)
        store = S3Store(bucket)
        put(store, "first")
        put(store, "second")
        (seen,) = [each for each in proxy.seen if "second" in each.path and each.method == "PUT"]

    sent = headers(seen)
    assert sent.get("x-amz-security-token", "") == token
    assert sent["authorization"].endswith(f"Signature={signature(seen, s3_server)}")


def signature(seen: Seen, server: S3Server) -> str:
    """What botocore makes of the headers that the request says are signed."""
    sent, environment = headers(seen), server.environment()
    signed = sent["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    request: Any = AWSRequest(
        method="PUT",
        url=f"http://{sent['host']}{seen.path}",
        headers={name: sent[name] for name in signed},
        data=BODY,
    )
    request.context["timestamp"] = sent["x-amz-date"]
    auth: Any = S3SigV4Auth(
        Credentials(environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]),
        "s3",
        sent["authorization"].split("/")[2],
    )
    to_sign = auth.string_to_sign(request, auth.canonical_request(request))
    return str(auth.signature(to_sign, request))


@pytest.mark.parametrize(
    "failure",
    [
        s3_error(503, "SlowDown"),
        s3_error(403, "RequestTimeTooSkewed"),
        s3_error(307, "TemporaryRedirect"),
        s3_error(500, "InternalError", after=True),
        Reply(reset=True),
    ],
    ids=["busy", "clock", "redirect", "done and not said", "no answer"],
)
def test_a_put_that_fails_is_sent_again_by_boto3(
    opened_with: OpenWith, proxy: S3Proxy, no_waiting: None, failure: Reply
) -> None:
    store = opened_with(StoreOptions())
    store.check()
    put(store, "first")
    proxy.answer_next("PUT", failure)

    store.put_new("set/second.webp", BODY, content_type=WEBP, metadata={})

    assert are_boto3s(puts(proxy)) == [False, False, True]
    assert store.get("set/second.webp") == BODY


def test_a_condition_that_is_not_met_needs_no_second_put(
    opened_with: OpenWith, proxy: S3Proxy
) -> None:
    store = opened_with(StoreOptions())
    store.check()
    put(store, "first")

    kept = store.put_new("set/first=1.webp", b"other", content_type=WEBP, metadata={})

    assert not kept[1]
    assert are_boto3s(puts(proxy)) == [False, False]
