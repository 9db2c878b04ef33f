"""LoRA references and addresses that are taken; the refused ones are among the bad inputs."""

import pytest

from flux_pipeline.models.lora import checked_lora, checked_url, has_foreign_letters, lora_warnings

COMMIT = "0123456789abcdef" * 2 + "01234567"


@pytest.mark.parametrize(
    "reference",
    [
        "alvdansen/frosting_lane_flux",
        "A-1/b_2",
        f"https://hf.co/owner/name/resolve/{COMMIT}/f.safetensors",
        "https://huggingface.co/owner/name/resolve/main/f.safetensors",
        "https://huggingface.co/owner/name/blob/main/folder/f.safetensors",
        "https://example.com/f.safetensors",
        "https://example.com:8443/a/b/f.safetensors",
        "https://civitai.com/api/download/models/735063?type=Model&format=SafeTensor",
        "https://civitai.com/api/download/models/1?type=Model&format=SafeTensor&token=abc",
        "https://replicate.delivery/yhqm/abc-DEF_1/trained_model.tar",
        "https://example.com/download?token=abc&file=f.safetensors",
    ],
)
def test_is_taken_as_it_is_and_without_a_warning(reference: str) -> None:
    assert checked_lora(reference) == reference
    assert list(lora_warnings(reference)) == []


def test_a_query_behind_the_ending_is_warned_of() -> None:
    reference = "https://example.com/f.safetensors?token=abc"
    (warning,) = lora_warnings(checked_lora(reference))
    assert "ends in .safetensors" in warning
    assert "abc" not in warning


@pytest.mark.parametrize(
    "url",
    [
        "https://huggingface.co/owner/name/resolve/v2/f.safetensors",
        "https://huggingface.co/owner/name",
        "https://huggingface.co/owner/name/resolve/main/f.safetensors?download=true",
        "https://www.huggingface.co/owner/name/resolve/abc/f.safetensors",
    ],
)
def test_huggingface_co_is_refused_where_the_model_would_load_something_else(url: str) -> None:
    with pytest.raises(ValueError, match="loads the main revision"):
        checked_lora(url)


@pytest.mark.parametrize(
    ("refused", "instead"),
    [
        ("some.user/model.v2", "https://hf.co/some.user/model.v2/resolve/main/<file>.safetensors"),
        (
            "https://huggingface.co/some.user/model.v2",
            "https://hf.co/some.user/model.v2/resolve/main/<file>.safetensors",
        ),
        (
            "https://huggingface.co/some.user/model.v2/resolve/main/a/f.safetensors",
            "https://hf.co/some.user/model.v2/resolve/main/a/f.safetensors",
        ),
        (
            "https://huggingface.co/some.user/model.v2/blob/main/f.safetensors",
            "https://hf.co/some.user/model.v2/resolve/main/f.safetensors",
        ),
        (
            f"https://huggingface.co/o/n.1/resolve/{COMMIT}/f.safetensors?download=true",
            f"https://hf.co/o/n.1/resolve/{COMMIT}/f.safetensors",
        ),
        (
            "https://hf.co/some.user/model.v2/blob/main/f.safetensors",
            "https://hf.co/some.user/model.v2/resolve/main/f.safetensors",
        ),
        (
            "https://hf.co/some.user/model.v2",
            "https://hf.co/some.user/model.v2/resolve/main/<file>.safetensors",
        ),
        (
            "huggingface.co/o/n.1/resolve/main/f.safetensors",
            "https://hf.co/o/n.1/resolve/main/f.safetensors",
        ),
        (
            "https://huggingface.co/o.o/n/tree/v2",
            "https://hf.co/o.o/n/resolve/v2/<file>.safetensors",
        ),
    ],
)
def test_the_address_that_a_message_proposes_is_taken(refused: str, instead: str) -> None:
    with pytest.raises(ValueError, match=r"hf\.co") as raised:
        checked_lora(refused)
    assert f"write {instead}" in str(raised.value)
    followed = instead.replace("<file>", "lora")
    assert checked_lora(followed) == followed
    assert list(lora_warnings(followed)) == []


def test_a_page_of_a_plain_name_proposes_the_name() -> None:
    with pytest.raises(ValueError, match=r"write owner/name, or https://hf\.co/owner/name/"):
        checked_lora("https://huggingface.co/owner/name")


def test_a_proposal_holds_no_query() -> None:
    with pytest.raises(ValueError, match=r"hf\.co") as raised:
        checked_lora("https://huggingface.co/o/n.1/resolve/main/f.safetensors?token=abc")
    assert "abc" not in str(raised.value)


@pytest.mark.parametrize(
    "url", ["https://example.com", "https://EXAMPLE.com/a?b=c#d", "https://a-b.example.co.uk:443/"]
)
def test_a_public_address_is_taken(url: str) -> None:
    assert checked_url(url).scheme == "https"


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "//example.com/",
        "https:///x",
        "https://example/",
        "https://example.com:99999/",
        "https://1.2.3.4/",
        "https://127.1/",
        "https://0177.0.0.1/",
        "https://printer.local/",
        "https://exa mple.com/",
        "https://example.com\\@evil.com/",
        "https://-a.com/",
        "https://a..com/",
        "https://example.com/\n",
        "https://" + "a" * 70 + "\u00e9.com/",
    ],
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"address|https|public host"):
        checked_url(url)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("example.com", False), ("ex\u00e4mple.com", True), ("xn--exmple-cua.com", True)],
)
def test_foreign_letters_are_seen(host: str, expected: bool) -> None:
    assert has_foreign_letters(f"https://{host}/f") is expected


def test_an_international_host_is_taken() -> None:
    assert checked_url("https://b\u00fccher.example.com/f.safetensors").hostname
