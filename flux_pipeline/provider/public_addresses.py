"""Keeps downloads out of private networks (SSRF): which addresses are public, and a DNS resolver.

A URL that a provider names may point into our own network: at the cloud's metadata service, at a
database, at this machine. ``PublicResolver`` checks the very address that is connected to, so a
name that resolves differently a moment later (DNS rebinding) gains nothing.
"""

import asyncio
import errno
import ipaddress
import re
import socket
from collections.abc import Sequence

from aiohttp.abc import AbstractResolver, ResolveResult

_EMBEDDING = (
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),
    (ipaddress.IPv6Network("::/96"), 0),
    (ipaddress.IPv6Network("2002::/16"), 80),
)
"""IPv6 networks whose addresses hold an IPv4 address, and its distance from the end in bits."""
_LOCAL = (ipaddress.IPv6Network("64:ff9b:1::/48"), ipaddress.IPv6Network("fec0::/10"))
"""Local networks that ``ipaddress`` takes for global ones."""
_ENDS_IN_A_NUMBER = re.compile(r"(?:^|\.)(?:[0-9]+|0x[0-9a-f]*)\.?$", re.IGNORECASE)
_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class PrivateAddress(OSError):
    """Raised by the resolver for a name with an address that is not public."""


class PublicResolver(AbstractResolver):
    """Resolves names to public addresses; one private address among them refuses the whole name.

    ``exempt`` is the host and port of the configured provider, which may be on this machine;
    ``networks`` are those whose addresses count as public, as a proxy tool's own DNS gives them.
    """

    def __init__(self, exempt: tuple[str, int], networks: Sequence[str] = ()) -> None:
        self._exempt = exempt
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
        allowed = all(is_allowed(address, self._networks) for _, address in addresses)
        if (host, port) != self._exempt and not allowed:
            raise PrivateAddress(errno.EACCES, "an address of a private network")
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=kind, proto=0, flags=_NUMERIC
            )
            for kind, address in addresses
        ]

    async def close(self) -> None:
        """Close nothing: the resolver holds nothing open."""


def is_allowed(address: str, networks: Sequence[str]) -> bool:
    """Whether the literal is public, or in one of the networks that a person has named."""
    if is_public(address):
        return True
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return any(parsed in ipaddress.ip_network(network) for network in networks)


def is_public(address: str) -> bool:
    """Whether the literal is an address of the public internet.

    An IPv4 address that is embedded in an IPv6 one (mapped, NAT64, 6to4) is judged as itself.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = _embedded(parsed)
        if inner is not None:
            return is_public(str(inner))
        if parsed.teredo is not None or any(parsed in network for network in _LOCAL):
            return False
    return parsed.is_global and not (parsed.is_multicast or parsed.is_reserved)


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    for network, shift in _EMBEDDING:
        if address in network:
            return ipaddress.IPv4Address((int(address) >> shift) & 0xFFFFFFFF)
    return None


def is_address(host: str) -> bool:
    """Whether the host is a literal address, in any spelling that some resolver understands.

    Besides ``127.0.0.1`` and ``::1`` also ``2130706433``, ``0177.1`` and ``0x7f.0.0.1``: as in the
    URL standard, a host whose last label is a number is meant as an address.
    """
    return ":" in host or _ENDS_IN_A_NUMBER.search(host) is not None
