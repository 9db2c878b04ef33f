"""One origin, one key: what is refused before anything is sent."""

import copy
import pickle
import traceback

import pytest

from flux_pipeline.errors import ConfigError
from flux_pipeline.provider.config import ProviderConfig, origin_of
from tests.provider.samples import ID, KEY


def config(base_url: str = "https://api.replicate.com", api_key: str = KEY) -> ProviderConfig:
    return ProviderConfig(base_url=base_url, api_key=api_key)


@pytest.mark.parametrize(
    ("base_url", "predictions_url"),
    [
        ("https://api.replicate.com", "https://api.replicate.com/v1/predictions"),
        ("https://api.replicate.com/", "https://api.replicate.com/v1/predictions"),
        ("https://api.replicate.com/v1", "https://api.replicate.com/v1/predictions"),
        ("https://api.replicate.com/v1/predictions/", "https://api.replicate.com/v1/predictions"),
        (
            "https://www.anyapi.vip/replicate",
            "https://www.anyapi.vip/replicate/v1/predictions",
        ),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1/predictions"),
        ("http://localhost:8000", "http://localhost:8000/v1/predictions"),
        ("http://[::1]:8000", "http://[::1]:8000/v1/predictions"),
        (" https://a.example\n", "https://a.example/v1/predictions"),
    ],
)
def test_the_endpoint_is_built_from_the_base(base_url: str, predictions_url: str) -> None:
    made = config(base_url)
    assert made.predictions_url == predictions_url
    assert made.prediction_url(ID) == f"{predictions_url}/{ID}"


def test_an_id_can_t_leave_its_place_in_the_url() -> None:
    assert config().prediction_url("../a?b#c").endswith("/v1/predictions/..%2Fa%3Fb%23c")


def test_a_key_is_cleaned_of_what_copying_adds() -> None:
    assert config(api_key=f'"Bearer {KEY}"').api_key == KEY


@pytest.mark.parametrize("base_url", ["http://api.replicate.com", "https://user:pw@a.example"])
def test_a_base_that_could_lead_the_key_astray_is_refused(base_url: str) -> None:
    with pytest.raises(ConfigError, match="base_url"):
        config(base_url)


def test_a_key_that_no_header_can_hold_is_refused_without_being_printed() -> None:
    with pytest.raises(ConfigError, match="api_key") as refused:
        config(api_key=f"{KEY} x")
    assert KEY not in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"creates_per_minute": 0},
        {"calls_per_minute": -1.0},
        {"creates_per_minute": float("nan")},
        {"concurrency": 0},
        {"max_reply_bytes": 0},
        {"max_download_bytes": 0},
        {"output_hosts": ("https://a.b",)},
        {"output_hosts": ("https://user:canary@a.b",)},
        {"output_networks": ("198.18.0.1/15",)},
    ],
)
def test_limits_that_allow_nothing_are_refused(changes: dict[str, object]) -> None:
    fields: dict[str, object] = {"base_url": "https://a.example", "api_key": KEY, **changes}
    with pytest.raises(ConfigError) as refused:
        ProviderConfig(**fields)  # type: ignore[arg-type]
    assert next(iter(changes)) in str(refused.value)
    assert "canary" not in str(refused.value)


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        ProviderConfig(base_url="x", api_key="", concurrency=0)
    assert len(refused.value.problems) == 3


def test_the_key_is_in_no_representation_copy_or_traceback() -> None:
    made = config()
    assert KEY not in repr(made)
    assert KEY not in str(made)
    for travel in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="holds a key") as refused:
            travel(made)
        assert KEY not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://A.example/x", ("https", "a.example", 443)),
        ("http://a.example", ("http", "a.example", 80)),
        ("https://a.example:8443/", ("https", "a.example", 8443)),
    ],
)
def test_origins(url: str, origin: tuple[str, str, int]) -> None:
    assert origin_of(url) == origin


@pytest.mark.parametrize("models", [("a",), ("a/b", "a/b:1"), ("https://a.example/b",)])
def test_a_white_list_of_anything_but_models_is_refused(models: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="models") as refused:
        ProviderConfig(base_url="https://api.replicate.com", api_key=KEY, models=models)
    assert repr(models[-1]) in str(refused.value)
