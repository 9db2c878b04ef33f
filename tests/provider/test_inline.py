"""Images that lie in the reply itself."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.errors import DownloadError
from flux_pipeline.prediction import Output
from flux_pipeline.provider.config import ProviderConfig
from flux_pipeline.provider.download import Downloader, decode_data_uri
from tests.provider.samples import KEY


@pytest.mark.parametrize(
    ("uri", "body"),
    [
        ("data:image/webp;base64,aGFsbG8=", b"hallo"),
        ("data:image/webp;base64,aGFsbG8", b"hallo"),
        ("data:;base64,aGFs\nbG8=", b"hallo"),
        ("data:image/webp;base64,aGFsbG8%3D", b"hallo"),
        ("data:text/plain,a%20b", b"a b"),
        ("data:,", b""),
    ],
)
def test_data_uris_are_decoded(uri: str, body: bytes) -> None:
    assert decode_data_uri(uri, 1000) == body


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=300))
def test_every_body_comes_back(body: bytes) -> None:
    uri = "data:image/png;base64," + base64.b64encode(body).decode()
    assert decode_data_uri(uri, 300) == body


@pytest.mark.parametrize(
    ("uri", "retryable"),
    [
        ("data:image/webp;base64", True),
        ("data:image/webp;base64,a*b", True),
        ("data:image/webp;base64,aaaaa", True),
        ("data:image/webp;base64," + "A" * 2000, False),
    ],
)
def test_what_is_damaged_or_too_long_is_refused(uri: str, *, retryable: bool) -> None:
    with pytest.raises(DownloadError) as refused:
        decode_data_uri(uri, 1000)
    assert refused.value.retryable is retryable
    assert len(str(refused.value)) < 100


@pytest.mark.anyio
async def test_inline_outputs_need_no_network() -> None:
    config = ProviderConfig(base_url="https://provider.example", api_key=KEY)
    async with Downloader(config) as downloads:
        assert await downloads.fetch(Output(0, "data:;base64,aGFsbG8=")) == b"hallo"
