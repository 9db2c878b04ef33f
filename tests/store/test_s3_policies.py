"""Buckets that demand something of every write: met by options, and named where they refuse."""

from functools import partial

import pytest

from flux_pipeline.errors import StoreError
from flux_pipeline.store_options import StoreOptions
from tests.servers.s3_proxy import Reply, S3Proxy, Seen, s3_error
from tests.store.conftest import OpenWith
from tests.store.contract import WEBP

KEY = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd"
DEMANDED = {
    "sse-s3": (StoreOptions(sse="AES256"), {"x-amz-server-side-encryption": "AES256"}),
    "sse-kms": (
        StoreOptions(sse="aws:kms", sse_kms_key_id=KEY),
        {
            "x-amz-server-side-encryption": "aws:kms",
            "x-amz-server-side-encryption-aws-kms-key-id": KEY,
        },
    ),
    "class": (StoreOptions(storage_class="STANDARD_IA"), {"x-amz-storage-class": "STANDARD_IA"}),
    "acl": (
        StoreOptions(acl="bucket-owner-full-control"),
        {"x-amz-acl": "bucket-owner-full-control"},
    ),
    "tags": (
        StoreOptions(tags="team=art, cost center=4/2"),
        {"x-amz-tagging": "team=art&cost+center=4%2F2"},
    ),
    "crc32": (StoreOptions(checksum="CRC32"), {"x-amz-checksum-crc32": "FttPiQ=="}),
    "md5": (StoreOptions(checksum="MD5"), {"content-md5": "VFb8VMdKKXzplJmMKHOzcA=="}),
    "requester": (StoreOptions(request_payer="requester"), {"x-amz-request-payer": "requester"}),
}


def demand(headers: dict[str, str], seen: Seen) -> Reply | None:
    is_met = headers.items() <= seen.headers.items()
    return None if is_met or seen.method != "PUT" else s3_error(403, "AccessDenied")


def demand_names(headers: set[str], seen: Seen) -> Reply | None:
    is_met = headers <= seen.headers.keys()
    return None if is_met or seen.method != "PUT" else s3_error(403, "AccessDenied")


@pytest.mark.parametrize(("options", "headers"), DEMANDED.values(), ids=DEMANDED)
def test_what_is_demanded_is_sent_with_every_write(
    proxy: S3Proxy, opened_with: OpenWith, options: StoreOptions, headers: dict[str, str]
) -> None:
    proxy.choose = partial(demand_names, set(headers))
    store = opened_with(options)
    store.check()
    store.put_new("a.webp", b"picture", content_type=WEBP, metadata={})
    proxy.choose = partial(demand, headers)
    store.put("b.webp", b"picture", content_type=WEBP)
    assert store.put_new("c.webp", b"picture", content_type=WEBP, metadata={})[1]
    assert {key: store.get(key) for key in store.list()} == dict.fromkeys(
        ("a.webp", "b.webp", "c.webp"), b"picture"
    )


@pytest.mark.parametrize(("options", "headers"), DEMANDED.values(), ids=DEMANDED)
def test_what_is_demanded_and_not_sent_is_named_by_its_settings(
    proxy: S3Proxy, opened_with: OpenWith, options: StoreOptions, headers: dict[str, str]
) -> None:
    proxy.choose = partial(demand, headers)
    with pytest.raises(
        StoreError, match=r"AccessDenied on PutObject; needs s3:PutObject"
    ) as denied:
        opened_with(StoreOptions()).check()
    for name in ("SSE", "SSE_KMS_KEY_ID", "STORAGE_CLASS", "CHECKSUM", "ACL", "TAGS"):
        assert f"FLUX_S3_{name}" in str(denied.value)


@pytest.mark.parametrize("options", [each for each, _ in DEMANDED.values()], ids=DEMANDED)
def test_a_write_is_proven_whatever_is_demanded(
    proxy: S3Proxy, opened_with: OpenWith, options: StoreOptions
) -> None:
    store = opened_with(options)
    store.check()
    before = len(proxy.seen)
    for number in range(8):
        store.put_new(f"{number}.webp", b"picture", content_type=WEBP, metadata={})
    calls = [each.method for each in proxy.seen[before:]]
    assert (calls.count("PUT"), calls.count("HEAD"), calls.count("GET")) == (8, 4, 0)


@pytest.mark.parametrize("kind", ["SHA256", "CRC32", "MD5", "none"])
def test_one_checksum_is_sent_and_none_behind_the_bytes(
    proxy: S3Proxy, opened_with: OpenWith, kind: str
) -> None:
    opened_with(StoreOptions(checksum=kind)).put("a.webp", b"picture", content_type=WEBP)
    (put,) = (each.headers for each in proxy.seen if each.method == "PUT")
    names = {"SHA256": {"x-amz-checksum-sha256"}, "CRC32": {"x-amz-checksum-crc32"}}
    checksums = {name for name in put if name.startswith("x-amz-checksum")}
    assert checksums == names.get(kind, set())
    assert ("content-md5" in put) == (kind == "MD5")
    assert "x-amz-trailer" not in put
    assert "content-encoding" not in put


@pytest.mark.parametrize("kind", ["SHA256", "SHA1", "CRC32"])
def test_bytes_changed_on_their_way_are_not_stored_whichever_checksum_is_sent(
    proxy: S3Proxy, opened_with: OpenWith, kind: str
) -> None:
    store = opened_with(StoreOptions(checksum=kind))
    store.check()
    proxy.spoil_request = bytes.upper
    with pytest.raises(StoreError, match=r"a\.webp: .* on PutObject; the bytes were changed"):
        store.put("a.webp", b"picture", content_type=WEBP)


@pytest.mark.parametrize("kind", ["MD5", "none"])
def test_bytes_changed_on_their_way_are_noticed_without_a_checksum_of_amazons(
    proxy: S3Proxy, opened_with: OpenWith, kind: str
) -> None:
    store = opened_with(StoreOptions(checksum=kind))
    store.check()
    proxy.forget.add("content-md5")
    proxy.spoil_request = bytes.upper
    with pytest.raises(StoreError, match="keeps other bytes than it was sent"):
        store.put("a.webp", b"picture", content_type=WEBP)


def words(code: str, message: str, status: int = 403) -> Reply:
    return s3_error(status, code, {"Note": message})


@pytest.mark.parametrize(
    ("reply", "hint"),
    [
        (
            words("AccessDenied", "no rights to perform: kms:GenerateDataKey on resource: arn"),
            "needs kms:GenerateDataKey and kms:Decrypt on the key of FLUX_S3_SSE_KMS_KEY_ID",
        ),
        (
            words("InvalidRequest", "Content-MD5 OR x-amz-checksum- HTTP header is required", 400),
            "demands more, or less, of a write: set FLUX_S3_CHECKSUM",
        ),
        (
            words("InvalidArgument", "Server Side Encryption with KMS is required", 400),
            "of a write: set FLUX_S3_SSE (with FLUX_S3_SSE_KMS_KEY_ID)",
        ),
        (
            words("InvalidArgument", "x-amz-tagging", 400),
            "of a write: set FLUX_S3_TAGS",
        ),
        (s3_error(400, "InvalidStorageClass"), "correct FLUX_S3_STORAGE_CLASS"),
        (s3_error(400, "AccessControlListNotSupported"), "unset FLUX_S3_ACL"),
        (s3_error(400, "InvalidTag"), "correct FLUX_S3_TAGS"),
    ],
)
def test_a_server_that_says_what_is_wrong_has_that_setting_named(
    proxy: S3Proxy, opened_with: OpenWith, reply: Reply, hint: str
) -> None:
    proxy.always["PUT"] = reply
    with pytest.raises(StoreError) as refused:
        opened_with(StoreOptions()).put("a.webp", b"x", content_type=WEBP)
    assert str(refused.value).endswith(hint)


def test_what_a_server_does_not_know_is_named_as_sent(
    proxy: S3Proxy, opened_with: OpenWith
) -> None:
    proxy.always["PUT"] = s3_error(501, "NotImplemented")
    options = StoreOptions(sse="aws:kms", sse_kms_key_id=KEY, tags="team=secretive")
    with pytest.raises(StoreError) as refused:
        opened_with(options).put("a.webp", b"x", content_type=WEBP)
    sent = "(sent with FLUX_S3_SSE, FLUX_S3_SSE_KMS_KEY_ID, FLUX_S3_TAGS)"
    assert str(refused.value).endswith(sent)
    assert KEY not in str(refused.value)
    assert "secretive" not in str(refused.value)


def test_rights_that_an_option_needs_are_named(proxy: S3Proxy, opened_with: OpenWith) -> None:
    proxy.always["PUT"] = s3_error(403, "AccessDenied")
    with pytest.raises(StoreError) as denied:
        opened_with(StoreOptions(acl="private", tags="a=b")).put("a", b"x", content_type=WEBP)
    assert "needs s3:PutObjectAcl, s3:PutObjectTagging, s3:PutObject on arn" in str(denied.value)


def test_a_refused_read_names_no_setting_of_writes(proxy: S3Proxy, opened_with: OpenWith) -> None:
    proxy.always["GET"] = s3_error(403, "AccessDenied")
    with pytest.raises(StoreError) as denied:
        opened_with(StoreOptions(sse="AES256")).get("a.webp")
    assert "FLUX_S3_" not in str(denied.value)


def test_who_asks_pays_for_reads_and_lists_too(proxy: S3Proxy, opened_with: OpenWith) -> None:
    store = opened_with(StoreOptions(request_payer="requester"))
    store.put("a", b"x", content_type=WEBP)
    store.get("a")
    store.head("a")
    list(store.list())
    assert {each.headers.get("x-amz-request-payer") for each in proxy.seen} == {"requester"}
