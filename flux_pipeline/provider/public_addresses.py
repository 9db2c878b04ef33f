"""Keeps downloads out of private networks (SSRF): which addresses are public, and a DNS resolver.

A URL that a provider names may point into our own network: at the cloud's metadata service, at a
database, at this machine. ``PublicResolver`` checks the very address that is connected to, so a
name that resolves differently a moment later (DNS rebinding) gains nothing.

A person can name further networks (``is_allowed``), as proxy tools give every name an address in
198.18.0.0/15. A wide network such as 0.0.0.0/0 or 10.0.0.0/8 never opens this machine, link-local
addresses or a cloud's metadata service, which hands out credentials: each of those has to be named
by itself.

Through an HTTP proxy it is the proxy that resolves names, so that only the proxy can keep them out
of private networks: literal addresses and the list of hosts are all that is checked here then.
"""

import asyncio
import errno
import ipaddress
import re
import socket
from collections.abc import Sequence
from typing import TypeAlias

from aiohttp.abc import AbstractResolver, ResolveResult

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_EMBEDDING = (
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),
    (ipaddress.IPv6Network("::/96"), 0),
    (ipaddress.IPv6Network("2002::/16"), 80),
)
"""IPv6 networks whose addresses hold an IPv4 address, and its distance from the end in bits."""
_LOCAL = tuple(
    ipaddress.ip_network(each) for each in ("64:ff9b:1::/48", "fec0::/10", "168.63.129.16/32")
)
"""Local networks that ``ipaddress`` takes for global ones; the last is a service of Azure's."""
_THIS_MACHINE = tuple(ipaddress.ip_network(each) for each in ("127.0.0.0/8", "::1/128"))
_NEVER_BY_CHANCE = tuple(
    ipaddress.ip_network(each)
    for each in (
        *("0.0.0.0/8", "::/128", "169.254.0.0/16", "fe80::/10", "224.0.0.0/4", "ff00::/8"),
        # Metadata services of clouds.
        *("169.254.169.254/32", "169.254.170.2/32", "168.63.129.16/32", "192.0.0.192/32"),
        *("100.100.100.200/32", "fd00:ec2::254/128"),
    )
)
_PRIVATE = tuple(
    ipaddress.ip_network(each)
    for each in (
        *("198.18.0.0/15", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),
        *("127.0.0.0/8", "::1/128", "fc00::/7"),
    )
)
"""The networks that a person would name for an address in them."""
_ENDS_IN_A_NUMBER = re.compile(r"(?:^|\.)(?:[0-9]+|0x[0-9a-f]*)\.?$", re.IGNORECASE)
_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class PrivateAddress(OSError):
    """Raised by the resolver for a name with an ``address`` that is not public."""

    def __init__(self, address: str) -> None:
        super().__init__(errno.EACCES, f"{address} is an address of a private network")
        self.address = address


class PublicResolver(AbstractResolver):
    """Resolves names to public addresses; one private address among them refuses the whole name.

    ``exempt`` is the host and port of the configured provider, which may be on this machine;
    ``networks`` are those whose addresses count as public, as a proxy tool's own DNS gives them.
    ``proxy`` is the proxy's host and port, which a company has in its own network.
    """

    def __init__(
        self,
        exempt: tuple[str, int],
        networks: Sequence[str] = (),
        *,
        proxy: tuple[str, int] | None = None,
    ) -> None:
        self._exempt = (exempt, proxy)
        self._networks = networks

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses to connect to.

        Raises:
            PrivateAddress: For a name of our own network.
            OSError: Where the name is not known.
        """
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, family=family, type=socket.SOCK_STREAM
        )
        addresses = [(each[0], str(each[4][0])) for each in found]
        if (host, port) not in self._exempt:
            for _, address in addresses:
                if not is_allowed(address, self._networks):
                    raise PrivateAddress(address)
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=kind, proto=0, flags=_NUMERIC
            )
            for kind, address in addresses
        ]

    async def close(self) -> None:
        """Close nothing: the resolver holds nothing open."""


def is_allowed(address: str, networks: Sequence[str]) -> bool:
    """Whether the literal is public, or in one of the networks that a person has named.

    This machine, link-local addresses and metadata services count only where the network that is
    named holds nothing else.
    """
    if is_public(address):
        return True
    parsed = _parse(address)
    if parsed is None:
        return False
    guards = [each for each in (*_THIS_MACHINE, *_NEVER_BY_CHANCE) if parsed in each]
    named = [each for each in map(ipaddress.ip_network, networks) if parsed in each]
    return any(all(_lies_in(network, guard) for guard in guards) for network in named)


def network_of(address: str) -> str | None:
    """The network to name so that the literal is allowed, such as ``198.18.0.0/15``.

    None where nobody should: for link-local addresses, metadata services and what is no host's.
    """
    parsed = _parse(address)
    if parsed is None or any(parsed in each for each in _NEVER_BY_CHANCE):
        return None
    private = (str(network) for network in _PRIVATE if parsed in network)
    return next(private, str(ipaddress.ip_network(parsed)))


def is_public(address: str) -> bool:
    """Whether the literal is an address of the public internet.

    An IPv4 address that is embedded in an IPv6 one (mapped, NAT64, 6to4) is judged as itself.
    """
    parsed = _parse(address)
    if parsed is None or any(parsed in network for network in _LOCAL):
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.teredo is not None:
        return False
    return parsed.is_global and not (parsed.is_multicast or parsed.is_reserved)


def _parse(address: str) -> _Address | None:
    """Parse a literal, and take out the IPv4 address that an IPv6 one embeds."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv4Address) or parsed.is_loopback or parsed.is_unspecified:
        return parsed
    return _embedded(parsed) or parsed


def _lies_in(network: _Network, other: _Network) -> bool:
    """Whether all of one network is part of the other; both hold the same address."""
    if isinstance(network, ipaddress.IPv4Network) and isinstance(other, ipaddress.IPv4Network):
        return network.subnet_of(other)
    if isinstance(network, ipaddress.IPv6Network) and isinstance(other, ipaddress.IPv6Network):
        return network.subnet_of(other)
    return False


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    for network, shift in _EMBEDDING:
        if address in network:
            return ipaddress.IPv4Address((int(address) >> shift) & 0xFFFFFFFF)
    return None


def is_network(text: str) -> bool:
    """Whether the text is an IPv4 or IPv6 network, such as ``198.18.0.0/15``."""
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def is_address(host: str) -> bool:
    """Whether the host is a literal address, in any spelling that some resolver understands.

    Besides ``127.0.0.1`` and ``::1`` also ``2130706433``, ``0177.1`` and ``0x7f.0.0.1``: as in the
    URL standard, a host whose last label is a number is meant as an address.
    """
    return ":" in host or _ENDS_IN_A_NUMBER.search(host) is not None
