"""Which calls go through a proxy, and how its URL is read."""

import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.network import Network, find_proxy_mistake, parse_proxy

CANARY = "canary-Vq83hZ"
URL = "http://proxy.example:3128"


def is_direct(no_proxy: str, url: str) -> bool:
    return Network(proxy=URL, no_proxy=no_proxy).proxy_for(url) is None


@pytest.mark.parametrize(
    ("no_proxy", "url"),
    [
        ("example.com", "https://example.com/x"),
        ("example.com", "https://API.Example.com"),
        (".example.com", "https://api.example.com"),
        (".example.com", "https://example.com"),
        ("*.example.com", "https://a.b.example.com"),
        ("EXAMPLE.com.", "https://api.example.com."),
        ("other.test, example.com", "https://example.com"),
        ("other.test example.com", "https://example.com"),
        ("example.com:443", "https://example.com"),
        (".example.com:8443", "https://api.example.com:8443"),
        ("10.0.0.0/8", "https://10.1.2.3"),
        ("10.1.2.3", "https://10.1.2.3:8443"),
        ("10.1.2.3:8443", "https://10.1.2.3:8443"),
        ("fd00::/8", "https://[fd00::1]"),
        ("fd00::1", "https://[fd00::1]"),
        ("[fd00::1]:8443", "https://[fd00::1]:8443"),
        ("*", "https://example.com"),
        ("other.test,*", "https://10.1.2.3"),
    ],
)
def test_hosts_that_no_proxy_names_are_called_directly(no_proxy: str, url: str) -> None:
    assert is_direct(no_proxy, url)


@pytest.mark.parametrize(
    ("no_proxy", "url"),
    [
        ("", "https://example.com"),
        (" , .,", "https://example.com"),
        ("example.com", "https://notexample.com"),
        ("example.com", "https://example.com.evil.test"),
        ("api.example.com", "https://example.com"),
        ("example.com:8443", "https://example.com"),
        ("10.0.0.0/8", "https://11.1.2.3"),
        ("10.0.0.0/8", "https://10.example"),
        ("10.0.0.0/99", "https://10.1.2.3"),
        ("0.0.1", "https://10.0.0.1"),
        ("ex*ple.com", "https://example.com"),
    ],
)
def test_others_go_through_the_proxy(no_proxy: str, url: str) -> None:
    assert not is_direct(no_proxy, url)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8900", "127.9.9.9", "[::1]:1"])
def test_this_machine_is_never_called_through_a_proxy(host: str) -> None:
    assert is_direct("", f"https://{host}/x")
    assert is_direct("", f"http://{host}/x")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://proxy.example:3128", "http://proxy.example:3128"),
        ("HTTP://proxy.example:3128/", "http://proxy.example:3128"),
        ("proxy.example:3128", "http://proxy.example:3128"),
        ("user:word@proxy.example", "http://proxy.example:80"),
        ("https://proxy.example", "https://proxy.example:443"),
        ("http://[fd00::1]:3128", "http://[fd00::1]:3128"),
    ],
)
def test_a_proxy_is_written_as_other_programs_read_it(text: str, url: str) -> None:
    assert parse_proxy(text).url == url


@given(
    user=st.text(st.characters(codec="utf-8", exclude_characters=":"), min_size=1),
    password=st.text(st.characters(codec="utf-8")),
)
def test_every_user_and_password_arrives_once_it_is_encoded(user: str, password: str) -> None:
    text = f"http://{quote(user, safe='')}:{quote(password, safe='')}@proxy.example:3128"
    proxy = parse_proxy(text)
    sent = base64.b64decode(proxy.authorization.removeprefix("Basic ")).decode()
    assert sent == f"{user}:{password}"
    assert proxy.url == URL


@given(st.text(st.characters(codec="utf-8")), st.sampled_from("@#/%?\\ "), st.text())
def test_a_refused_proxy_shows_nothing_of_its_password(head: str, sign: str, tail: str) -> None:
    text = f"http://user:{head}{CANARY}{sign}{tail}@proxy.example:3128"
    mistake = find_proxy_mistake(text)
    assert CANARY not in mistake
    if mistake:
        with pytest.raises(ValueError, match="is ambiguous") as raised:
            Network(proxy=text)
        assert CANARY not in str(raised.value)


def test_the_password_is_in_no_representation() -> None:
    network = Network(proxy=f"http://user:{CANARY}@proxy.example:3128")
    proxy = network.proxy_for("https://example.com")
    assert proxy is not None
    shown = f"{network!r} {proxy!r} {proxy} {proxy.url}"
    assert CANARY not in shown
    assert proxy.authorization.removeprefix("Basic ") not in shown
