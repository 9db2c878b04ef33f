"""An httpx client that keeps nothing and follows nothing, and reads bodies up to a cap.

Both clients of the provider are made here, the one with the key and the one without. They share
this code, and no header, cookie or connection.
"""

import logging
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import httpx

from flux_pipeline.provider.config import Timeouts

_HTTP_LOGGER = logging.getLogger("httpx")


class Session(httpx.AsyncClient):
    """One pool of connections. ``accept`` is the kind of content that is asked for."""

    def __init__(
        self, transport: httpx.AsyncBaseTransport, timeouts: Timeouts, *, accept: str
    ) -> None:
        super().__init__(transport=transport, follow_redirects=False, trust_env=False)
        _hide_urls()
        self._no_cookies = _Forgetful()
        self._headers_sent = [
            ("user-agent", f"flux-pipeline/{version('flux-pipeline')}"),
            ("accept", accept),
            ("accept-encoding", "identity"),
        ]
        self._connect = timeouts.connect

    @property
    def cookies(self) -> httpx.Cookies:
        """Always empty: whatever a server sets is forgotten at once."""
        return self._no_cookies

    @cookies.setter
    def cookies(self, _cookies: object) -> None:
        """Forget these too."""

    def plan(
        self,
        method: str,
        url: str,
        *,
        deadline: float,
        silence: float | None = None,
        headers: Sequence[tuple[str, str]] = (),
        content: bytes | None = None,
    ) -> httpx.Request:
        """Build a request with no header but ours, to be ended within ``deadline`` seconds.

        ``silence`` is the longest pause in the reply; the deadline where it is not given.
        Built here and not by httpx, whose merging of defaults takes longer than sending.
        """
        return httpx.Request(
            method,
            url,
            headers=[*self._headers_sent, *headers],
            content=content,
            extensions={
                "timeout": {"connect": self._connect, "pool": self._connect, "read": silence},
                "total": deadline,
            },
        )


class _Forgetful(httpx.Cookies):
    """Cookies that are never taken."""

    def extract_cookies(self, response: httpx.Response) -> None:
        """Leave them where they are."""


async def read_body(response: httpx.Response, limit: int) -> bytes | None:
    """Return the body as it came over the wire, or None as soon as it is over ``limit`` bytes.

    A declared length over the limit is enough: nothing of it is read then.
    """
    declared = response.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:19]) > limit:
        return None
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.aiter_raw():
        size += len(chunk)
        if size > limit:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


class _UrlsHidden(logging.Filter):
    """Cuts the query out of the URLs that httpx logs."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(map(_without_query, record.args))
        return True


def _without_query(value: Any) -> Any:
    return value.copy_with(query=None, userinfo=b"") if isinstance(value, httpx.URL) else value


def _hide_urls() -> None:
    """Silence httpx below warnings, and cut the queries out of whatever it may still log."""
    if not any(isinstance(each, _UrlsHidden) for each in _HTTP_LOGGER.filters):
        _HTTP_LOGGER.addFilter(_UrlsHidden())
        if _HTTP_LOGGER.level < logging.WARNING:
            _HTTP_LOGGER.setLevel(logging.WARNING)
