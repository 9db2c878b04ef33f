import pytest

from flux_pipeline.store_options import NO_OPTIONS, VARIABLES, StoreOptions, find_option_mistake

RIGHT = {
    "writers": ["one", "many"],
    "addressing": ["auto", "path", "virtual"],
    "sse": ["AES256", "aws:kms", "aws:kms:dsse"],
    "sse_kms_key_id": ["1234abcd-12ab", "alias/art", "arn:aws-cn:kms:cn-north-1:1:key/1"],
    "storage_class": ["STANDARD_IA", "GLACIER_IR", "IA", "ceph-cold_2"],
    "checksum": ["SHA256", "SHA1", "CRC32", "MD5", "none"],
    "acl": ["bucket-owner-full-control", "private"],
    "tags": ["a=b", "a=b,c=d", "cost center=4/2 + 1, empty=", "a=b=c".replace("=c", "")],
    "request_payer": ["requester"],
}
WRONG = {
    "writers": ["two", "ONE"],
    "addressing": ["host"],
    "sse": ["aes256", "kms"],
    "sse_kms_key_id": ["two words", "schlüssel"],
    "storage_class": ["GLACIER", "DEEP_ARCHIVE", "STANDARD IA"],
    "checksum": ["crc32", "CRC64NVME"],
    "acl": ["public-read-write", "everyone"],
    "tags": ["a", "a=b,c", "=b", "a=b;c=d&e", "a=b,a=c", ",".join(f"{n}=x" for n in range(11))],
    "request_payer": ["yes"],
}


def test_every_option_has_a_variable_and_is_tried_here() -> None:
    assert list(VARIABLES.values()) == list(RIGHT) == list(WRONG)
    assert list(VARIABLES.values()) == list(StoreOptions.__slots__)


@pytest.mark.parametrize(("name", "text"), [(n, t) for n, texts in RIGHT.items() for t in texts])
def test_what_is_right_is_taken(name: str, text: str) -> None:
    assert find_option_mistake(name, text) == ""


@pytest.mark.parametrize(("name", "text"), [(n, t) for n, texts in WRONG.items() for t in texts])
def test_what_is_wrong_is_named(name: str, text: str) -> None:
    (variable,) = (each for each, option in VARIABLES.items() if option == name)
    assert find_option_mistake(name, text)
    with pytest.raises(ValueError, match=variable):
        StoreOptions(**{name: text})


def test_all_mistakes_are_found_at_once() -> None:
    with pytest.raises(ValueError, match=r"FLUX_S3_SSE: .*FLUX_S3_ACL: ") as wrong:
        StoreOptions(sse="kms", acl="all", sse_kms_key_id="1")
    assert "FLUX_S3_SSE_KMS_KEY_ID: is used with FLUX_S3_SSE=aws:kms alone" in str(wrong.value)


def test_a_class_that_must_be_restored_says_what_to_take() -> None:
    assert "such as GLACIER_IR" in find_option_mistake("storage_class", "DEEP_ARCHIVE")


def test_only_what_was_changed_is_passed_on() -> None:
    assert NO_OPTIONS.changed() == {}
    options = StoreOptions(tags="a=b", writers="one")
    assert options.changed() == {"writers": "one", "tags": "a=b"}
    assert StoreOptions(**options.changed()) == options


def test_tags_are_pairs() -> None:
    assert StoreOptions(tags="a=b, c=").tag_pairs == [("a", "b"), ("c", "")]
