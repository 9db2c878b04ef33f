"""Uploads files to the provider's Files API, so that a prediction can read them.

The provider keeps a file for some hours and gives an address that is read when the prediction
starts. An upload costs nothing and may be repeated. Only ``POST /v1/files`` is known here;
aggregators have upload hosts of other forms.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from flux_pipeline.outcomes import NoFiles, Uploaded, UploadFailed, UploadOutcome
from flux_pipeline.provider.classify import THROTTLED, Answer, error_text, retry_after
from flux_pipeline.provider.config import ProviderConfig, origin_of
from flux_pipeline.provider.http import ApiClient, Reply, load_object
from flux_pipeline.provider.limiter import Limiter
from flux_pipeline.provider.parse import parse_moment, read_id
from flux_pipeline.provider.transport import ProxyRefused
from flux_pipeline.redaction import redact_untrusted

_NO_FILES = frozenset({404, 405, 410, 501})
_TOO_LARGE, _SERVER_ERROR = 413, 500
_RETRYABLE = frozenset({408, 425, THROTTLED})
_MAX_NAME = 255
"""Bytes of a file's name."""


class Files:
    """Uploads in one event loop. ``clock`` is unix seconds; ``secrets`` are redacted."""

    def __init__(
        self,
        config: ProviderConfig,
        api: ApiClient,
        limiter: Limiter,
        *,
        clock: Callable[[], float],
        secrets: Collection[str],
    ) -> None:
        self._config = config
        self._secrets = secrets
        self._api = api
        self._limiter = limiter
        self._clock = clock
        self._has_files = config.has_files

    async def upload(self, body: bytes, *, filename: str, content_type: str) -> UploadOutcome:
        """Upload one file; see ``Provider.upload``."""
        if self._has_files is False:
            return NoFiles(self._message("takes no files: it has no /v1/files"))
        if len(body) > self._config.max_upload_bytes:
            return UploadFailed(self._message(self._too_large(body)), retry=False)
        content, form_type = _form(body, filename, content_type)
        sent_at = await self._limiter.acquire("call")
        answer = await self._api.send(
            "POST",
            self._config.files_url,
            deadline=self._config.timeouts.upload,
            content=content,
            content_type=form_type,
        )
        outcome = self._read(answer, body)
        if isinstance(outcome, UploadFailed) and _status(answer) == THROTTLED:
            await self._limiter.slow_down("call", outcome.retry_after, sent_at=sent_at)
        return outcome

    def _read(self, answer: Answer, body: bytes) -> UploadOutcome:
        if isinstance(answer, httpx.HTTPError):
            retry = not isinstance(answer, ProxyRefused)
            return UploadFailed(self._message(f"no file was uploaded: {answer}"), retry=retry)
        fields, unreadable = load_object(answer)
        if answer.succeeded:
            return self._uploaded(fields, unreadable, body)
        if answer.status in _NO_FILES and not self._has_files:
            self._has_files = False
            return NoFiles(self._message(f"takes no files: /v1/files answered {answer.status}"))
        detail = error_text(fields, *self._secrets) or answer.describe()
        if answer.status == _TOO_LARGE:
            detail = f"{self._too_large(body)}; {detail}"
        return UploadFailed(
            self._message(f"the upload of a file was answered {answer.status}: {detail}"),
            retry=answer.status in _RETRYABLE or answer.status >= _SERVER_ERROR,
            retry_after=retry_after(answer.headers, fields, now=self._clock()),
        )

    def _uploaded(
        self, fields: Mapping[str, Any], unreadable: str, body: bytes
    ) -> Uploaded | UploadFailed:
        """Read the reply to an upload: of all that it says, the address alone has to be there."""
        if unreadable:
            return UploadFailed(self._message(f"after an upload {unreadable}"), retry=True)
        sha256 = hashlib.sha256(body).hexdigest()
        sums = fields.get("checksums")
        received = sums.get("sha256") if isinstance(sums, Mapping) else None
        if isinstance(received, str) and received and received.lower() != sha256:
            return UploadFailed(self._message("a file arrived changed: other SHA-256"), retry=True)
        urls = fields.get("urls")
        url = urls.get("get") if isinstance(urls, Mapping) else None
        if not isinstance(url, str) or not self._is_trusted(url):
            message = "the reply to an upload has no https address of the file (urls.get)"
            return UploadFailed(self._message(message), retry=False)
        self._has_files = True
        return Uploaded(
            id=read_id(fields.get("id")) or "",
            url=url,
            expires_at=parse_moment(fields.get("expires_at")),
            sha256=sha256,
        )

    def _is_trusted(self, url: str) -> bool:
        """Whether an input may name this address: https without a user, or our own origin."""
        try:
            parts, origin = urlsplit(url), origin_of(url)
        except ValueError:
            return False
        own = origin == self._config.origin
        return "@" not in parts.netloc and (own or parts.scheme == "https")

    def _too_large(self, body: bytes) -> str:
        limit = self._config.max_upload_bytes
        return f"a file of {len(body):,} bytes is too large to be uploaded (at most {limit:,})"

    def _message(self, text: str) -> str:
        return f"{self._config.origin[1]}: {redact_untrusted(text, *self._secrets)}"


def _form(body: bytes, filename: str, content_type: str) -> tuple[bytes, str]:
    """The multipart form of a file, and its content type with the boundary."""
    name = filename.encode(errors="replace")[-_MAX_NAME:].decode(errors="ignore") or "file"
    form = httpx.Request(
        "POST",
        "https://form.invalid",
        data={"filename": name, "type": content_type},
        files={"content": (name, body, content_type)},
    )
    return form.read(), form.headers["content-type"]


def _status(answer: Answer) -> int:
    return answer.status if isinstance(answer, Reply) else 0
