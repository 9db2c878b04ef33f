"""Which base URLs, keys and output hosts a provider may have, and which addresses are certain."""

from urllib.parse import quote, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from flux_pipeline.endpoint import (
    AMBIGUOUS,
    find_base_url_mistake,
    find_broker_mistake,
    find_database_mistake,
    find_key_mistake,
    find_user_mistake,
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
        ("https://user:pw/x@api.replicate.com", "a user"),
        ("https://user:12/pw@api.replicate.com", "a user"),
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


PASSWORDS = st.text("@/#%?:;+&=[]\\ '\"abcXYZ019\u00e9", max_size=12)
"""As people choose them: rich in the signs at which URLs are cut."""


def looks_encoded(password: str) -> bool:
    """Whether a part of it reads as an encoded sign: nobody can tell that it is none."""
    return unquote(password) != password


@given(PASSWORDS.filter(lambda password: not looks_encoded(password)))
def test_a_password_that_is_not_encoded_is_read_as_it_is_or_refused(password: str) -> None:
    url = f"postgresql://user:{password}@host.example:5432/data"
    mistake = find_database_mistake(url)
    assert mistake in ("", AMBIGUOUS), "a message of which no part comes from the address"
    if not mistake:
        read = make_url(url)
        assert (read.password or "") == password
        assert (read.host, read.port, read.database) == ("host.example", 5432, "data")
        parts = urlsplit(url)
        assert unquote(parts.password or "") == password
        assert parts.hostname == "host.example"


@given(PASSWORDS, st.sampled_from(["postgresql", "redis", "amqp", "https"]))
def test_an_encoded_password_is_accepted(password: str, scheme: str) -> None:
    url = f"{scheme}://user:{quote(password, safe='')}@host.example:5432/data"
    assert find_user_mistake(url) == find_broker_mistake(url) == ""
    assert (make_url(url).password or "") == password


@given(
    st.sampled_from("@/#?"), PASSWORDS, PASSWORDS, st.sampled_from(["redis", "https", "postgresql"])
)
def test_a_sign_that_cuts_the_address_is_always_refused(
    sign: str, head: str, tail: str, scheme: str
) -> None:
    url = f"{scheme}://user:{head}{sign}{tail}@host.example/data"
    assert find_user_mistake(url) == AMBIGUOUS
    assert find_broker_mistake(url) == AMBIGUOUS


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://host/data",
        "postgresql://user@/data?host=/run/postgresql",
        "postgresql://user:p:w@[fd00::1]:5432/data",
        "postgresql://user:pw@a:5432,b:5433/data",
        "postgresql:///data?host=/run/a@b",
        "sqlite:////home/me@work/a#b%.db",
    ],
)
def test_addresses_of_databases_that_are_certain(url: str) -> None:
    assert find_database_mistake(url) == ""


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("data.db", "is not a database URL"),
        ("user:pw@host/data", "is not a database URL"),
        ("postgresql://host:port/data", "has a host or a port that is none"),
        ("postgresql://user:pw@host:port/data", AMBIGUOUS),
        ("postgresql://user:12/pw@host/data", AMBIGUOUS),
        ("postgresql://user:p%zz@host/data", AMBIGUOUS),
        ("postgresql://host/data?password=p@w", AMBIGUOUS),
    ],
)
def test_addresses_of_databases_that_are_not(url: str, message: str) -> None:
    assert find_database_mistake(url).startswith(message)


@pytest.mark.parametrize(
    "urls",
    [
        "redis://:pw@broker:6379/0",
        "sentinel://a:26379;sentinel://b:26379",
        "sqs://key:secret@",
        "rpc://",
        "cache+memory://",
        "amqp://guest:guest@broker//",
        "db+sqlite:////data/a@b.db",
        "azureservicebus://policy:a/b+c=@space",
    ],
)
def test_a_broker_may_be_any_that_celery_knows(urls: str) -> None:
    assert find_broker_mistake(urls) == ""


@pytest.mark.parametrize(
    "urls", ["redis://:p;w@broker/0", "redis://:pw@broker:port/0", "broker:6379"]
)
def test_a_broker_that_celery_would_read_otherwise_is_refused(urls: str) -> None:
    mistake = find_broker_mistake(urls)
    assert mistake
    assert "p;w" not in mistake
    assert "broker" not in mistake.removesuffix("redis://host:6379/0")
