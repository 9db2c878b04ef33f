"""Which addresses are public, in every spelling, and which of them a name may resolve to."""

import asyncio
import socket
from typing import Any

import pytest
from aiohttp.abc import ResolveResult

from flux_pipeline.provider.public_addresses import (
    PrivateAddress,
    PublicResolver,
    is_address,
    is_allowed,
    is_public,
    network_of,
)

PRIVATE = [
    *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255"),
    *("192.168.1.1", "169.254.169.254", "100.64.0.1", "100.127.255.255", "192.0.0.1"),
    *("192.0.2.1", "198.18.0.1", "203.0.113.7", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1", "2001:db8::1"),
    *(
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::808:808",
        "2002:7f00:1::",
        "2002:a00:1::",
    ),
    *("2001:0:4136:e378:8000:63bf:3fff:fdd2",),
]
PUBLIC = [
    *("8.8.8.8", "1.1.1.1", "172.15.0.1", "172.32.0.1", "100.63.0.1", "100.128.0.1"),
    *("2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::"),
]


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_of_our_own_networks_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("text", ["", "localhost", "2130706433", "0x7f000001", "127.1", "a.b"])
def test_what_is_no_plain_address_is_not_public(text: str) -> None:
    assert not is_public(text)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0177.0.0.1",
        "0x7f.0.0.1",
        "0x7f000001",
        "0x",
        "::1",
        "127.0.0.1.",
        "1.2.3.4.5",
        "example.1",
        "017700000001",
    ],
)
def test_addresses_are_known_in_every_spelling(host: str) -> None:
    assert is_address(host)


@pytest.mark.parametrize("host", ["replicate.delivery", "1.example", "0x7f.example", "a1", "x0x1"])
def test_names_are_not_addresses(host: str) -> None:
    assert not is_address(host)


def resolve(
    monkeypatch: pytest.MonkeyPatch,
    *addresses: str,
    name: tuple[str, int] = ("a.example", 443),
    networks: tuple[str, ...] = (),
) -> list[ResolveResult]:
    async def run() -> list[ResolveResult]:
        async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
            kind = {False: socket.AF_INET, True: socket.AF_INET6}
            return [
                (kind[":" in each], socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses
            ]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        return await PublicResolver(("provider.example", 8000), networks).resolve(*name)

    return asyncio.run(run())


def test_public_names_resolve_to_the_addresses_that_were_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = resolve(monkeypatch, "8.8.8.8", "2606:4700:4700::1111")
    assert [each["host"] for each in found] == ["8.8.8.8", "2606:4700:4700::1111"]
    assert [each["family"] for each in found] == [socket.AF_INET, socket.AF_INET6]
    assert all(each["flags"] & socket.AI_NUMERICHOST for each in found)


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::1", "fe80::1%2"])
def test_one_private_address_refuses_the_whole_name(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    with pytest.raises(PrivateAddress, match="private network"):
        resolve(monkeypatch, "8.8.8.8", address)


def test_the_configured_provider_may_be_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    found = resolve(monkeypatch, "10.0.0.1", name=("provider.example", 8000))
    assert found[0]["host"] == "10.0.0.1"
    with pytest.raises(PrivateAddress):
        resolve(monkeypatch, "10.0.0.1", name=("provider.example", 8001))


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("198.18.0.7", "198.18.0.0/15"),
        ("198.19.255.1", "198.18.0.0/15"),
        ("::ffff:198.18.0.7", "198.18.0.0/15"),
        ("10.1.2.3", "10.0.0.0/8"),
        ("172.20.0.1", "172.16.0.0/12"),
        ("192.168.1.1", "192.168.0.0/16"),
        ("100.64.3.4", "100.64.0.0/10"),
        ("fd12::1", "fc00::/7"),
        ("203.0.113.7", "203.0.113.7/32"),
        ("127.8.8.8", "127.0.0.0/8"),
        ("::1", "::1/128"),
    ],
)
def test_the_network_to_name_for_an_address_opens_it(address: str, network: str) -> None:
    assert network_of(address) == network
    assert not is_allowed(address, [])
    assert not is_allowed(address, ["192.0.2.0/24", "2001:db8::/32"])
    assert is_allowed(address, ["192.0.2.0/24", network])


GUARDED = [
    *("127.0.0.1", "::1", "169.254.1.1", "169.254.169.254", "169.254.170.2", "fe80::1"),
    *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "fe80::1%eth0"),
    *("0.0.0.0", "::", "100.100.100.200", "fd00:ec2::254", "168.63.129.16", "224.0.0.1", "ff02::1"),
]
WIDE = ["0.0.0.0/0", "::/0", "100.64.0.0/10", "fd00::/8", "::ffff:0:0/96", "64:ff9b::/96"]


@pytest.mark.parametrize("address", GUARDED)
def test_a_wide_network_opens_neither_this_machine_nor_metadata(address: str) -> None:
    assert not is_allowed(address, WIDE)


@pytest.mark.parametrize(
    ("network", "opened", "closed"),
    [
        ("127.0.0.0/8", "127.8.8.8", "169.254.1.1"),
        ("127.0.0.1/32", "127.0.0.1", "127.0.0.2"),
        ("::1/128", "::1", "127.0.0.1"),
        ("169.254.0.0/16", "169.254.1.1", "169.254.169.254"),
        ("169.254.169.254/32", "169.254.169.254", "169.254.169.253"),
        ("100.64.0.0/10", "100.64.0.1", "100.100.100.200"),
        ("fd00:ec2::254/128", "fd00:ec2::254", "fd00:ec2::253"),
    ],
)
def test_what_is_guarded_is_opened_by_its_own_name_alone(
    network: str, opened: str, closed: str
) -> None:
    assert is_allowed(opened, [network])
    assert not is_allowed(closed, [network])


@pytest.mark.parametrize(
    "address", ["169.254.1.1", "169.254.169.254", "fe80::1", "0.0.0.0", "::", "224.0.0.1", "0x7f.1"]
)
def test_nobody_is_told_to_open_what_hands_out_credentials(address: str) -> None:
    assert network_of(address) is None


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_need_no_network(address: str) -> None:
    assert is_allowed(address, [])


def test_names_may_resolve_into_networks_that_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PrivateAddress, match=r"198\.18\.0\.7 is") as refused:
        resolve(monkeypatch, "8.8.8.8", "198.18.0.7")
    assert refused.value.address == "198.18.0.7"
    found = resolve(monkeypatch, "8.8.8.8", "198.18.0.7", networks=("198.18.0.0/15",))
    assert [each["host"] for each in found] == ["8.8.8.8", "198.18.0.7"]
    with pytest.raises(PrivateAddress, match="127"):
        resolve(monkeypatch, "127.0.0.1", networks=("198.18.0.0/15", "0.0.0.0/0"))
