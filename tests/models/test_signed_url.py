"""An address signed anew is the same input; another file, version or conversion is another."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.models import build_request
from flux_pipeline.models.flux_schnell_lora import MODEL, FluxSchnellLoraInput
from flux_pipeline.models.signed_url import comparable_url
from flux_pipeline.redaction import redact_url
from flux_pipeline.request import Source

FILES = {
    "s3 v4": "https://bucket.s3.eu-central-1.amazonaws.com/in/cat.png",
    "s3 v2": "https://bucket.s3.amazonaws.com/in/cat.png",
    "minio": "https://minio.example.com:9000/bucket/in/cat.png",
    "cloudfront canned": "https://d111111abcdef8.cloudfront.net/in/cat.png",
    "cloudfront custom": "https://d111111abcdef8.cloudfront.net/in/cat.png",
    "azure": "https://account.blob.core.windows.net/in/cat.png",
    "azure delegation": "https://account.blob.core.windows.net/in/cat.png",
    "google v2": "https://storage.googleapis.com/bucket/cat.png",
    "google v4": "https://storage.googleapis.com/bucket/cat.png",
    "google cdn": "https://cdn.example.com/in/cat.png",
    "oss v1": "https://bucket.oss-cn-hangzhou.aliyuncs.com/cat.png",
    "oss v4": "https://bucket.oss-cn-hangzhou.aliyuncs.com/cat.png",
    "oss v2": "https://bucket.oss-cn-hangzhou.aliyuncs.com/cat.png",
    "cos": "https://bucket-125.cos.ap-guangzhou.myqcloud.com/cat.png",
    "cos in one": "https://bucket-125.cos.ap-guangzhou.myqcloud.com/cat.png",
    "obs": "https://bucket.obs.cn-north-4.myhuaweicloud.com/cat.png",
    "tos": "https://bucket.tos-cn-beijing.volces.com/cat.png",
    "qiniu": "https://img.example.com/cat.png",
    "discord": "https://cdn.discordapp.com/attachments/1/2/cat.png",
}

# What a signer added on two days; the second day's key is another one, and temporary.
DAYS = {
    "s3 v4": (
        (
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA1%2F20261129%2Feu-central-1%2Fs3"
            "%2Faws4_request&X-Amz-Date=20261129T080000Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host"
            "&X-Amz-Signature=aa01"
        ),
        (
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Content-Sha256=UNSIGNED-PAYLOAD&X-Amz-Credential="
            "ASIA2%2F20261130%2Feu-central-1%2Fs3%2Faws4_request&X-Amz-Date=20261130T090000Z"
            "&X-Amz-Expires=600&X-Amz-Security-Token=FwoG%2F&X-Amz-Signature=bb02"
            "&X-Amz-SignedHeaders=host"
        ),
    ),
    "s3 v2": (
        "AWSAccessKeyId=AKIA1&Signature=a%2Bb%3D&Expires=1764400000",
        "AWSAccessKeyId=ASIA2&Expires=1764500000&x-amz-security-token=Fwo&Signature=c%2Fd%3D",
    ),
    "minio": (
        (
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=m%2F1&X-Amz-Date=1&X-Amz-Expires=7"
            "&X-Amz-SignedHeaders=host&X-Amz-Signature=aa"
        ),
        (
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=m%2F2&X-Amz-Date=2&X-Amz-Expires=8"
            "&X-Amz-SignedHeaders=host&X-Amz-Signature=bb"
        ),
    ),
    "cloudfront canned": (
        "Expires=1764400000&Signature=a-b~c__&Key-Pair-Id=K1",
        "Expires=1764500000&Signature=d-e~f__&Key-Pair-Id=K2&Hash-Algorithm=SHA256",
    ),
    "cloudfront custom": (
        "Policy=eyJTdGF0ZW1lbnQi&Signature=a-b~&Key-Pair-Id=K1",
        "Policy=eyJTdGF0ZW1lbnQj&Signature=c-d~&Key-Pair-Id=K1",
    ),
    "azure": (
        "sv=2022-11-02&st=2026-11-29T08%3A00%3A00Z&se=2026-11-29T09%3A00%3A00Z&sr=b&sp=r&sig=a%3D",
        "sp=r&st=2026-11-30T08:00:00Z&se=2026-11-30T09:00:00Z&spr=https&sv=2024-08-04&sr=b&sig=b",
    ),
    "azure delegation": (
        (
            "skoid=1&sktid=2&skt=2026-11-29T08%3A00%3A00Z&ske=2026-11-29T09%3A00%3A00Z&sks=b"
            "&skv=2022-11-02&sv=2022-11-02&se=2026-11-29&sr=b&sp=r&sig=a"
        ),
        (
            "skoid=1&sktid=2&skt=2026-11-30T08%3A00%3A00Z&ske=2026-11-30T09%3A00%3A00Z&sks=b"
            "&skv=2022-11-02&sv=2022-11-02&se=2026-11-30&sip=1.2.3.4&sr=b&sp=r&sig=b"
        ),
    ),
    "google v2": (
        "GoogleAccessId=a%40b.iam.gserviceaccount.com&Expires=1764400000&Signature=a%3D",
        "GoogleAccessId=c%40b.iam.gserviceaccount.com&Expires=1764500000&Signature=b%3D",
    ),
    "google v4": (
        (
            "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=a%2F20261129%2Fauto%2Fstorage%2Fgoog4"
            "&X-Goog-Date=20261129T080000Z&X-Goog-Expires=900&X-Goog-SignedHeaders=host"
            "&X-Goog-Signature=aa"
        ),
        (
            "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=a%2F20261130%2Fauto%2Fstorage%2Fgoog4"
            "&X-Goog-Date=20261130T080000Z&X-Goog-Expires=901&X-Goog-SignedHeaders=host"
            "&X-Goog-Signature=bb"
        ),
    ),
    "google cdn": (
        "Expires=1764400000&KeyName=k1&Signature=a=",
        "URLPrefix=aHR0cHM6&Expires=1764500000&KeyName=k2&Signature=b=",
    ),
    "oss v1": (
        "Expires=1764400000&OSSAccessKeyId=LTAI1&Signature=a%3D",
        "Expires=1764500000&OSSAccessKeyId=STS.2&Signature=b%3D&security-token=CAIS",
    ),
    "oss v4": (
        (
            "x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-date=20261129T080000Z&x-oss-expires=60"
            "&x-oss-credential=a%2F20261129&x-oss-signature=aa"
        ),
        (
            "x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-date=20261130T080000Z&x-oss-expires=61"
            "&x-oss-credential=a%2F20261130&x-oss-additional-headers=host&x-oss-security-token=C"
            "&x-oss-signature=bb"
        ),
    ),
    "oss v2": (
        (
            "x-oss-signature-version=OSS2&x-oss-expires=1764400000&x-oss-access-key-id=L"
            "&x-oss-signature=a"
        ),
        (
            "x-oss-signature-version=OSS2&x-oss-expires=1764500000&x-oss-access-key-id=M"
            "&x-oss-signature=b"
        ),
    ),
    "cos": (
        (
            "q-sign-algorithm=sha1&q-ak=AKID1&q-sign-time=1764400000%3B1764403600&q-key-time=1764400000"
            "%3B1764403600&q-header-list=host&q-url-param-list=&q-signature=aa"
        ),
        (
            "q-sign-algorithm=sha1&q-ak=AKID2&q-sign-time=1764500000;1764503600&q-key-time=1764500000;"
            "1764503600&q-header-list=host&q-url-param-list=&q-signature=bb&x-cos-security-token=T"
        ),
    ),
    "cos in one": (
        "sign=q-sign-algorithm%3Dsha1%26q-ak%3DA%26q-signature%3Daa",
        "sign=q-sign-algorithm%3Dsha1%26q-ak%3DB%26q-signature%3Dbb",
    ),
    "obs": (
        "AccessKeyId=A&Expires=1764400000&Signature=a%3D",
        "AccessKeyId=B&Expires=1764500000&Signature=b%3D&x-obs-security-token=g",
    ),
    "tos": (
        (
            "X-Tos-Algorithm=TOS4-HMAC-SHA256&X-Tos-Credential=a&X-Tos-Date=1&X-Tos-Expires=2"
            "&X-Tos-SignedHeaders=host&X-Tos-Signature=aa"
        ),
        (
            "X-Tos-Algorithm=TOS4-HMAC-SHA256&X-Tos-Credential=b&X-Tos-Date=2&X-Tos-Expires=3"
            "&X-Tos-SignedHeaders=host&X-Tos-Signature=bb&X-Tos-Security-Token=c"
        ),
    ),
    "qiniu": (
        "e=1764400000&token=AK-1:abcdefghijklmnopqrstuvwxyz0=",
        "e=1764500000&token=AK-1:zbcdefghijklmnopqrstuvwxyz1=",
    ),
    "discord": ("ex=67a1&is=679f&hm=aa01&", "ex=67a3&is=67a1&hm=bb02"),
}

OTHERS = [
    "versionId=1",
    "versionId=2",
    "snapshot=2026-11-01T00:00:00Z",
    "generation=17",
    "x-oss-process=image/resize,w_100",
    "x-oss-process=image/resize,w_200",
    "imageMogr2/thumbnail/100x",
    "response-content-type=image%2Fpng",
    "rsct=image%2Fpng",
    "page=2",
    "VERSIONID=1",
]
"""Parameters that may choose another file, or another form of it."""


def fingerprint_of(image: str) -> str:
    values = FluxSchnellLoraInput.model_validate({"prompt": "a cat", "seed": 7, "image": image})
    return build_request(MODEL, values, Source("set", "cat")).request_sha256


@pytest.mark.parametrize("signer", DAYS)
def test_a_picture_signed_on_another_day_is_the_same_input(signer: str) -> None:
    first, second = (f"{FILES[signer]}?{query}" for query in DAYS[signer])
    assert fingerprint_of(first) == fingerprint_of(second)
    assert comparable_url(first).rstrip("?") == FILES[signer]


@pytest.mark.parametrize("signer", DAYS)
def test_two_pictures_signed_alike_are_two_inputs(signer: str) -> None:
    query = DAYS[signer][0]
    cat, host = FILES[signer], urlsplit(FILES[signer]).netloc
    urls = [f"{cat}?{query}", f"{cat.replace('cat', 'dog')}?{query}"]
    urls.append(f"{cat.replace(host, f'other-{host}')}?{query}")
    urls += [f"{cat}?{other}&{query}" for other in OTHERS]
    assert len({fingerprint_of(url) for url in urls}) == len(urls)


@pytest.mark.parametrize("signer", DAYS)
def test_what_is_recorded_of_an_address_has_the_same_fingerprint(signer: str) -> None:
    url = f"{FILES[signer]}?{DAYS[signer][1]}"
    assert comparable_url(redact_url(url)) == comparable_url(url)


@pytest.mark.parametrize("signer", DAYS)
def test_no_secret_of_a_signature_stays(signer: str) -> None:
    assert comparable_url(f"{FILES[signer]}?a=1&{DAYS[signer][1]}&b=2").endswith("?a=1&b=2")


@pytest.mark.parametrize(
    "query",
    [
        "Expires=1&Signature=a",  # nobody's mark
        "expires=5&page=2",
        "X-Amz-Date=1&X-Amz-Expires=2",  # no signature
        "sv=1&sig=b&sr=c",  # a version that is no date
        "e=2&token=abc",
        "ex=1&is=2&hm=3",  # not at Discord
        "sign=libra&t=5",
        "policy=a&key-pair-id=b",
        "",
        "a=1&&b=2",
    ],
)
def test_parameters_of_no_signer_count_as_they_did(query: str) -> None:
    url = f"https://example.com/cat.png?{query}"
    assert comparable_url(url) == redact_url(url)


def test_a_file_named_by_what_looks_like_a_secret_is_warned_of() -> None:
    values = FluxSchnellLoraInput(prompt="a", image="https://example.com/f?key=in/cat.png")
    (warning,) = values.warnings()
    assert warning[0] == "image"
    assert 'the query\'s "key" is taken for a secret' in warning[1]
    plain = FluxSchnellLoraInput(prompt="a", image="https://example.com/f?id=cat.png&key=s3cret")
    assert list(plain.warnings()) == []


_WORDS = st.text(alphabet="abAB019.-_~%2F", max_size=6)
_NAMES = (
    st.sampled_from(
        sorted({pair.partition("=")[0] for days in DAYS.values() for pair in days[0].split("&")})
    )
    | _WORDS
)


@given(st.lists(st.tuples(_NAMES, _WORDS), max_size=6), st.sampled_from(sorted(DAYS)))
def test_signing_an_address_adds_nothing_and_a_second_look_takes_nothing_away(
    pairs: list[tuple[str, str]], signer: str
) -> None:
    url = f"{FILES[signer]}?{'&'.join(map('='.join, pairs))}"
    once = comparable_url(url)
    assert comparable_url(once) == once
    days = [comparable_url(f"{url}&{query}") for query in DAYS[signer]]
    assert days[0] == days[1]


@given(_WORDS, _WORDS, st.sampled_from(sorted(DAYS)), st.sampled_from(["versionId", "id", "w"]))
def test_addresses_that_differ_beside_their_signature_stay_different(
    one: str, other: str, signer: str, name: str
) -> None:
    first, second = (
        comparable_url(f"{FILES[signer]}?{name}={value}&{query}")
        for value, query in zip((one, other), DAYS[signer], strict=True)
    )
    assert (first == second) == (one == other)
