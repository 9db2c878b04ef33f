"""Which base URLs, keys and output hosts a provider may have."""

import pytest

from flux_pipeline.endpoint import (
    find_base_url_mistake,
    find_key_mistake,
    is_host_pattern,
    is_loopback,
    trim_key,
)

KEY = "r8_canary0123456789canary0123456789"


@pytest.mark.parametrize(
    "text",
    [
        f"  {KEY}\n",
        f'"{KEY}"',
        f"'{KEY}'",
        f"Bearer {KEY}",
        f"\tbearer  {KEY} ",
        f'"Bearer {KEY}"',
    ],
)
def test_what_copying_adds_to_a_key_is_dropped(text: str) -> None:
    assert trim_key(text) == KEY
    assert find_key_mistake(KEY) == ""


@pytest.mark.parametrize(
    "text",
    ["a b", "a\nb", "a\rX-Header: b", 'a"b', "a\x00b", "k\u00e9y", "Bearer a b"],
)
def test_a_key_that_no_header_can_hold_is_refused_without_being_printed(text: str) -> None:
    message = find_key_mistake(trim_key(text))
    assert "copy the key alone" in message
    assert text not in message


@pytest.mark.parametrize("text", ["", "  ", '""'])
def test_an_empty_key_is_refused(text: str) -> None:
    assert "is empty" in find_key_mistake(trim_key(text))


@pytest.mark.parametrize(
    "text",
    ["YOUR_API_KEY", "<your-key>", "{{YOUR_API_KEY}}", "your_token", "API_KEY", "changeme", "xxx"],
)
def test_a_placeholder_is_no_key(text: str) -> None:
    assert "placeholder" in find_key_mistake(text)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.replicate.com",
        "https://api.example.com:8443/replicate",
        "http://127.0.0.1:8000",
        "http://localhost:8000",
        "http://[::1]:8000",
    ],
)
def test_a_base_url_is_https_or_on_this_machine(url: str) -> None:
    assert find_base_url_mistake(url) == ""


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "is no URL"),
        ("api.replicate.com", "is no URL"),
        ("ftp://api.replicate.com", "is no URL"),
        ("file:///etc/passwd", "is no URL"),
        ("https://", "is no URL"),
        ("https://api.replicate.com:x", "is no URL"),
        ("https://api.replicate.com:99999", "is no URL"),
        ("https://[::1", "is no URL"),
        ("http://api.replicate.com", "in clear"),
        ("http://10.0.0.1", "in clear"),
        ("http://127.0.0.1.example.com", "in clear"),
        ("http://localhost.example.com", "in clear"),
        ("https://user:pw@api.replicate.com", "a user"),
        ("https://@api.replicate.com", "a user"),
        ("https://api.replicate.com?x=1", "a query"),
        ("https://api.replicate.com/#x", "a fragment"),
        ("https://api repl.com", "holds blanks or characters"),
        ("https://api.replicate.com\\@evil.example", "holds blanks or characters"),
        ("https://\u00e4pi.example", "holds blanks or characters"),
        ("https://a\x00b.example", "holds blanks or characters"),
    ],
)
def test_a_base_url_that_could_lead_the_key_astray_is_refused(url: str, message: str) -> None:
    found = find_base_url_mistake(url)
    assert message in found
    assert "pw" not in found


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_this_machine_is_recognised(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["10.0.0.1", "localhost.example.com", "127.1", ""])
def test_other_hosts_are_not_this_machine(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ("*", True),
        ("a.example", True),
        ("*.a.example", True),
        ("https://a.b", False),
        ("a.b/c", False),
        ("*a.b", False),
        ("", False),
    ],
)
def test_output_hosts_are_names_or_patterns(text: str, *, accepted: bool) -> None:
    assert is_host_pattern(text) is accepted
