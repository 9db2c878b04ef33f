"""Downloads outputs with a client of its own: no key, allowed hosts only, everything bounded.

The URL comes from a provider's reply, so it is checked before each request, redirects included
(``Downloader._check_url``): https, a host of ``output_hosts``, a public address. Only the
configured provider's own origin may be anything else, because the key is trusted to it anyway.
"""

import base64
import binascii
import re
import time
from collections.abc import Mapping
from urllib.parse import SplitResult, unquote_to_bytes, urljoin, urlsplit

import httpx
from yarl import URL

from flux_pipeline.errors import DownloadError
from flux_pipeline.prediction import Output
from flux_pipeline.provider.config import ProviderConfig, origin_of
from flux_pipeline.provider.encoding import undo_encoding
from flux_pipeline.provider.http import ConnectionOwner, Session
from flux_pipeline.provider.public_addresses import (
    PublicResolver,
    is_address,
    is_allowed,
    network_of,
)
from flux_pipeline.provider.transport import AddressRefused, AiohttpTransport, Answer
from flux_pipeline.text import shorten

_MAX_REDIRECTS = 3
_MOST_CHECKED = 256
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_GONE = frozenset({401, 403, 404, 410})
"""Codes that no later try will change: outputs are deleted after an hour."""
_RETRYABLE = frozenset({408, 425, 429})
_MIN_DEADLINE = 0.001  # s; aiohttp takes 0 for no deadline
_PLAIN_URL = re.compile(r"[!-\[\]-~]{1,4096}")  # printable ASCII without blanks and backslashes
_PLAIN_HOST = re.compile(r"[a-z0-9.-]+|[0-9a-f:.]+")
_IMAGE_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8")


class Downloader(ConnectionOwner):
    """The client without credentials. ``transport`` is replaced in tests alone."""

    def __init__(
        self, config: ProviderConfig, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._config = config
        _, host, port = config.origin
        proxy = config.network.own_proxy
        self._proxy = (proxy.host, proxy.port) if proxy else None
        self._checked: set[tuple[str, str]] = set()
        """Beginnings of URLs (scheme, and all to the path) that may be fetched from."""
        transport = transport or AiohttpTransport(
            connections=config.concurrency,
            resolver=PublicResolver((host, port), config.output_networks, proxy=self._proxy),
            network=config.network,
        )
        self._session = Session(transport, config.timeouts, accept="image/*")
        super().__init__(self._session)

    async def fetch(self, output: Output) -> bytes:
        """Return the bytes of one output; see ``Provider.download``."""
        if output.url.startswith("data:"):
            return decode_data_uri(output.url, self._config.max_download_bytes)
        ends_at = time.monotonic() + self._config.timeouts.download
        url, host = output.url, self._check_url(output.url)
        for _ in range(_MAX_REDIRECTS + 1):
            answer = await self._get(url, host, deadline=ends_at - time.monotonic())
            if isinstance(answer, bytes):
                return answer
            url, host = answer, self._check_url(answer)
        raise DownloadError(f"{host}: more than {_MAX_REDIRECTS} redirects")

    def _check_url(self, url: str) -> str:
        """Return the URL's host.

        Raises:
            DownloadError: For a URL that must not be fetched.
        """
        try:
            parts, called = urlsplit(url), URL(url, encoded=True).host
            beginning = parts.scheme, parts.netloc
            origin = None if beginning in self._checked else origin_of(url)
            host = parts.hostname or ""
        except ValueError:
            raise DownloadError("an output whose URL is none") from None
        # urllib checks the URL and aiohttp connects to it, by yarl: where they read the host
        # differently, a check of one says nothing about the other.
        if not _PLAIN_URL.fullmatch(url) or not _PLAIN_HOST.fullmatch(host) or called != host:
            raise DownloadError("an output whose URL is written in a way that hides its host")
        if origin is not None:
            self._check_origin(parts, origin)
            if len(self._checked) >= _MOST_CHECKED:
                self._checked.clear()
            self._checked.add(beginning)
        return host

    def _check_origin(self, parts: SplitResult, origin: tuple[str, str, int]) -> None:
        """Raise DownloadError for an origin, or a user, that must not be fetched from."""
        scheme, host, port = origin
        if parts.username is not None or parts.password is not None:
            raise DownloadError(f"{host}: a URL with a user is not fetched")
        if origin == self._config.origin:
            return
        # The resolver lets the proxy's name pass, whatever its address is.
        if (host, port) == self._proxy:
            raise DownloadError(f"{host}: the proxy itself is not fetched from")
        if scheme != "https":
            raise DownloadError(f"{host}: only https is fetched; have the provider give such URLs")
        # A literal address is checked here, a name by the resolver when it connects. A proxy
        # resolves names by itself: then only it can keep them out of private networks.
        if is_address(host) and not is_allowed(host, self._config.output_networks):
            raise DownloadError(f"{host}: {self._not_public(host)}")
        if not any(_allows(pattern, host) for pattern in self._config.output_hosts):
            hosts = ",".join([*self._config.output_hosts, host])
            raise DownloadError(
                f"{host} is not one of the hosts that outputs are fetched from; if it is your"
                f" provider's, set FLUX_OUTPUT_HOSTS={hosts}"
            )

    def _not_public(self, address: str) -> str:
        """Why an address is not connected to, and what to set where that is wanted."""
        why = f"its address {address} is not a public one"
        network = network_of(address)
        if network is None:
            return f"{why}, but link-local, a metadata service's or no host's: not fetched from"
        networks = ",".join([*self._config.output_networks, network])
        return (
            f"{why}; if a proxy or VPN of yours gives names such addresses, or outputs do lie in"
            f" that network, set FLUX_OUTPUT_NETWORKS={networks}"
        )

    async def _get(self, url: str, host: str, *, deadline: float) -> bytes | str:
        """Return the bytes, or the URL that the server redirects to."""
        try:
            async with await self._session.send(
                "GET",
                url,
                deadline=max(deadline, _MIN_DEADLINE),
                silence=self._config.timeouts.silence,
            ) as reply:
                return await self._read(reply, url, host)
        except AddressRefused as error:
            raise DownloadError(f"{host}: {self._not_public(error.address)}") from None
        except httpx.HTTPError as error:
            raise DownloadError(f"{host}: {error}", retryable=True) from None

    async def _read(self, reply: Answer, url: str, host: str) -> bytes | str:
        status, headers = reply.status, reply.headers
        if status in _REDIRECTS and "location" in headers:
            # Blanks and line ends are refused here, because urljoin drops them without a word.
            try:
                if _PLAIN_URL.fullmatch(headers["location"]):
                    return urljoin(url, headers["location"])
            except ValueError:
                pass
            raise DownloadError(f"{host}: {status} to what is no URL")
        if status != httpx.codes.OK:
            raise DownloadError(
                f"{host}: answered {status}",
                retryable=status in _RETRYABLE or status >= httpx.codes.INTERNAL_SERVER_ERROR,
                gone=status in _GONE,
            )
        limit = self._config.max_download_bytes
        body = await reply.read(limit)
        if body is None:
            raise DownloadError(f"{host}: more than {limit} bytes")
        # The bytes decide: CDNs name encodings that are not there, and types that are not so.
        body = undo_encoding(body, limit, is_image)
        if body is None:
            raise DownloadError(f"{host}: a compressed output of more than {limit} bytes")
        if not is_image(body):
            what = f"{_describe_type(headers)}, {len(body)} bytes"
            raise DownloadError(f"{host}: 200 OK but not an image ({what})", retryable=True)
        return body


def _describe_type(headers: Mapping[str, str]) -> str:
    """The content type and, if one is named, the encoding: such as ``image/webp, br``."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    encoding = headers.get("content-encoding", "").strip().lower()
    words = [shorten(kind, 40) or "no type", "" if encoding == "identity" else encoding]
    return ", ".join(shorten(word, 40) for word in words if word)


def is_image(body: bytes) -> bool:
    """Whether the bytes begin as an image file does; whether they are whole is seen later."""
    return (
        body.startswith(_IMAGE_STARTS)
        or (body[:4] == b"RIFF" and body[8:12] == b"WEBP")
        or body[4:8] == b"ftyp"  # AVIF, HEIC
    )


def _allows(pattern: str, host: str) -> bool:
    if pattern.startswith("*."):
        return host.endswith(pattern[1:])
    return pattern in ("*", host)


def decode_data_uri(uri: str, limit: int) -> bytes:
    """Return the bytes of a ``data:`` URI, at most ``limit``.

    Raises:
        DownloadError: For one that is too long, or damaged.
    """
    head, comma, data = uri.partition(",")
    if not comma:
        raise DownloadError("a data URI without data", retryable=True)
    if len(data) > limit * 4 // 3 + 4:
        raise DownloadError(f"a data URI of {len(data)} characters: more than {limit} bytes")
    if not head.lower().endswith(";base64"):
        return unquote_to_bytes(data)
    # Providers break lines, leave out the padding, or percent-encode it.
    coded = b"".join(unquote_to_bytes(data).split()).rstrip(b"=")
    try:
        return base64.b64decode(coded + b"=" * (-len(coded) % 4), validate=True)
    except binascii.Error:
        raise DownloadError("a data URI whose base64 is damaged", retryable=True) from None
