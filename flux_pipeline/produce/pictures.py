"""Makes the input that is sent: pictures at addresses that the provider can read, and secrets.

A request names a picture by its checksum and a secret by its environment variable. Before it is
claimed, each picture is uploaded to the provider, written into the input, or linked to in the
store, by ``FLUX_INPUT_FILES``. An upload costs nothing and is remembered in the ledger, so that one
file is uploaded once for as long as the provider keeps it. Whatever is wrong with a picture is
found here, when nothing has been paid.
"""

import base64
import hashlib
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, cast, runtime_checkable

import anyio
from anyio import to_thread

from flux_pipeline.errors import StoreError
from flux_pipeline.ledger.uploads import Upload
from flux_pipeline.models.signed_url import comparable_url
from flux_pipeline.outcomes import NoFiles, Uploaded, UploadFailed, UploadOutcome
from flux_pipeline.prediction import Prediction
from flux_pipeline.produce.effects import NotReady
from flux_pipeline.produce.policy import Policy
from flux_pipeline.redaction import REDACTED
from flux_pipeline.request import PICTURE_PREFIX, SECRET_PREFIX, InputPicture, JsonValue, Request
from flux_pipeline.store.base import Store

T = TypeVar("T")
InputFiles: TypeAlias = Literal["auto", "upload", "inline", "link"]
"""How pictures are sent: ``auto`` writes small ones into the input and uploads the others."""
INLINE_BYTES = 256_000
"""A larger file is not sent as a data: URI. Source: the provider's API document."""
START_SECONDS = 900.0
"""s for which an address must still be good: it is read when the prediction starts, and a model
that has to be loaded first starts minutes later."""
_UNSAID_SECONDS = 3600.0
"""s for which an upload is good where the provider does not say: its documents' shortest."""
_LINK_SECONDS = 6 * 3600
_UNKNOWN_TYPE = "application/octet-stream"
_ENDINGS = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp", "image/gif": "gif"}


class Uploader(Protocol):
    """The one call of the provider's client that is needed here."""

    async def upload(self, body: bytes, *, filename: str, content_type: str) -> UploadOutcome:
        """See ``Provider.upload``."""
        ...


class UploadMemory(Protocol):
    """What was uploaded before; see ``ledger.uploads.SqlUploads``. It blocks."""

    def find(self, sha256: str) -> Upload | None:
        """The upload of a file that is good the longest."""
        ...

    def addresses(self, sha256s: Collection[str]) -> Mapping[str, Collection[str]]:
        """Every address under which these files were ever sent."""
        ...

    def add(self, upload: Upload) -> None:
        """Remember an upload."""
        ...

    def retire(self, sha256s: Collection[str]) -> None:
        """Never send these files' known addresses again."""
        ...


@runtime_checkable
class LinkingStore(Protocol):
    """A store whose objects can be read by others for a while."""

    def presigned(self, key: str, seconds: int) -> str:
        """An address of an object that needs no key."""
        ...


@dataclass(frozen=True, slots=True)
class SentInput:
    """The input of one request as it is sent. Neither stored nor logged."""

    values: Mapping[str, JsonValue] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    """The values of its secrets, to be kept out of messages and of the ledger."""
    send_before: float
    """Unix seconds: later an address in it may end before the prediction starts."""


@dataclass(frozen=True, slots=True)
class _Address:
    url: str = field(repr=False)
    send_before: float = float("inf")


@dataclass(slots=True)
class InputPreparer:
    """Prepares the inputs of one run's requests; on one event loop."""

    uploader: Uploader
    memory: UploadMemory
    store: Store
    policy: Policy
    mode: InputFiles = "auto"
    inline_bytes: int = INLINE_BYTES
    read_secret: Callable[[str], str | None] = lambda _name: None
    """Gives the value of an environment variable; None where it is not set."""
    now: Callable[[], float] = time.time
    _locks: dict[str, anyio.Lock] = field(default_factory=dict)
    """One a picture: requests that need the same one wait for one upload."""
    _uploads: dict[str, Upload] = field(default_factory=dict)

    async def prepare(self, request: Request) -> SentInput | NotReady:
        """Bring the pictures where the provider can read them, and look up the secrets.

        Everything that is wrong is said at once. Raises LedgerError.
        """
        secrets, problems = self._secrets(request)
        addresses: dict[str, _Address] = {}
        for picture in dict.fromkeys(request.pictures):
            found = await self._address(picture)
            if isinstance(found, NotReady):
                problems.append(found.reason)
            else:
                addresses[picture.reference] = found
        if problems:
            return NotReady("; ".join(dict.fromkeys(problems)))
        values = {
            name: secrets[name] if name in secrets else _fill(value, addresses)
            for name, value in request.input.items()
        }
        ends = [address.send_before for address in addresses.values()]
        return SentInput(values, tuple(secrets.values()), min(ends, default=float("inf")))

    async def addresses(self, request: Request) -> Mapping[str, Collection[str]]:
        """Under which addresses the request's pictures were ever sent. Raises LedgerError.

        All are remembered before they are sent, so ``data:`` stands for the only other way.
        """
        if not request.pictures:
            return {}
        sha256s = [picture.sha256 for picture in request.pictures]
        found = await to_thread.run_sync(self.memory.addresses, sha256s)
        return {sha256: {"data:", *found.get(sha256, ())} for sha256 in sha256s}

    async def retire(self, request: Request) -> None:
        """Upload the request's pictures again next time: the provider could not read them.

        Raises LedgerError.
        """
        sha256s = [picture.sha256 for picture in request.pictures]
        for sha256 in sha256s:
            self._uploads.pop(sha256, None)
        if sha256s:
            await to_thread.run_sync(self.memory.retire, sha256s)

    def secret_values(self, request: Request) -> tuple[str, ...]:
        """The values of the request's secrets, as far as they are set."""
        return tuple(self._secrets(request)[0].values())

    def _secrets(self, request: Request) -> tuple[dict[str, str], list[str]]:
        """The secrets by the input's name, and what is missing."""
        secrets: dict[str, str] = {}
        problems = []
        for name in request.secret_inputs:
            variable = str(request.input.get(name, "")).removeprefix(SECRET_PREFIX)
            value = self.read_secret(variable)
            if value:
                secrets[name] = value
            else:
                problems.append(f"{variable} is not set: the input {name!r} is read from it")
        return secrets, problems

    async def _address(self, picture: InputPicture) -> _Address | NotReady:
        if not picture.uri:
            source = (picture.request_sha256 or picture.sha256)[:12]
            return NotReady(f"its source {source} is not made yet")
        key = _key_in(self.store, picture.uri)
        if self.mode == "link" and key is not None and isinstance(self.store, LinkingStore):
            return await self._link(picture, key, self.store)
        if self.mode == "inline" or (self.mode != "upload" and self._is_small(picture)):
            return await self._inline(picture)
        async with self._locks.setdefault(picture.sha256, anyio.Lock()):
            known = await self._known(picture)
            return known or await self._upload(picture)

    def _is_small(self, picture: InputPicture) -> bool:
        return picture.bytes <= self.inline_bytes

    async def _inline(self, picture: InputPicture) -> _Address | NotReady:
        if not self._is_small(picture):
            return NotReady(
                f"{picture.uri}: {picture.bytes:,} bytes are too many to be sent within the input"
                f" (at most {self.inline_bytes:,}): set FLUX_INPUT_FILES=auto, or make it smaller"
            )
        body = await self._read(picture)
        if isinstance(body, NotReady):
            return body
        coded = base64.b64encode(body).decode()
        return _Address(f"data:{picture.content_type or _UNKNOWN_TYPE};base64,{coded}")

    async def _link(
        self, picture: InputPicture, key: str, store: LinkingStore
    ) -> _Address | NotReady:
        body = await self._read(picture)  # a link to other bytes would be paid for
        if isinstance(body, NotReady):
            return body
        url = await to_thread.run_sync(store.presigned, key, _LINK_SECONDS)
        sent = Upload(picture.sha256, comparable_url(url))
        await to_thread.run_sync(self.memory.add, sent)
        return _Address(url, self.now() + _LINK_SECONDS - START_SECONDS)

    async def _known(self, picture: InputPicture) -> _Address | None:
        """The address of an earlier upload that is good for long enough."""
        upload = self._uploads.get(picture.sha256)
        if upload is None:
            upload = await to_thread.run_sync(self.memory.find, picture.sha256)
        if upload is None or upload.expires_at - START_SECONDS <= self.now():
            return None
        self._uploads[picture.sha256] = upload
        return _Address(upload.url, upload.expires_at - START_SECONDS)

    async def _upload(self, picture: InputPicture) -> _Address | NotReady:
        body = await self._read(picture)
        if isinstance(body, NotReady):
            return body
        # Not the user's own name of it, which is nobody's business.
        name = f"{picture.sha256[:16]}.{_ENDINGS.get(picture.content_type, 'bin')}"
        failures = 0
        while True:
            outcome = await self.uploader.upload(
                body, filename=name, content_type=picture.content_type or _UNKNOWN_TYPE
            )
            match outcome:
                case Uploaded():
                    return await self._remember(picture, outcome)
                case NoFiles(reason):
                    return NotReady(
                        f"{picture.uri}: {reason}, and {picture.bytes:,} bytes are too many to be"
                        f" sent within the input (at most {self.inline_bytes:,})"
                    )
                case UploadFailed(reason, retry, retry_after):
                    failures += 1
                    if not retry or failures >= self.policy.never_sent_tries:
                        return NotReady(f"{picture.uri}: {reason}")
                    await anyio.sleep(max(retry_after, self.policy.wait_after(failures)))

    async def _remember(self, picture: InputPicture, outcome: Uploaded) -> _Address:
        expires_at = outcome.expires_at
        now = self.now()
        end = now + _UNSAID_SECONDS if expires_at is None else expires_at.timestamp()
        upload = Upload(picture.sha256, outcome.url, outcome.id or "?", end)
        await to_thread.run_sync(self.memory.add, upload)
        self._uploads[picture.sha256] = upload
        # Where a provider keeps files for a shorter time than that, half of it must do.
        return _Address(upload.url, max(end - START_SECONDS, now + (end - now) / 2))

    async def _read(self, picture: InputPicture) -> bytes | NotReady:
        """The bytes of a picture, and proof that they are those which the request names."""
        key = _key_in(self.store, picture.uri)
        failures = 0
        while True:
            try:
                if key is None:
                    body = await to_thread.run_sync(_read_file, picture)
                else:
                    body = await to_thread.run_sync(self.store.get, key)
            except OSError as error:
                return NotReady(f"{picture.uri}: can't be read: {error.strerror}")
            except StoreError as error:
                failures += 1
                if failures >= self.policy.never_sent_tries:
                    return NotReady(str(error))
                await anyio.sleep(self.policy.wait_after(failures))
                continue
            if hashlib.sha256(body).hexdigest() != picture.sha256:
                return NotReady(f"{picture.uri}: has changed since it was read; run again")
            return body


def hide(outcome: T, secrets: Collection[str]) -> T:
    """An outcome, or a prediction, without the values of secrets, which a reply may repeat."""
    if not secrets or not is_dataclass(outcome):
        return outcome
    changed = {each.name: _hide(getattr(outcome, each.name), secrets) for each in fields(outcome)}
    hidden: T = replace(cast("Any", outcome), **changed)
    return hidden


def _hide(value: Any, secrets: Collection[str]) -> Any:
    if isinstance(value, Prediction):
        return hide(value, secrets)
    if isinstance(value, Mapping):
        return {name: _hide(each, secrets) for name, each in value.items()}
    if isinstance(value, list):
        return [_hide(each, secrets) for each in value]
    if type(value) is str:  # and no word of an enumeration
        for secret in secrets:
            value = value.replace(secret, REDACTED)
    return value


def _fill(value: JsonValue, addresses: Mapping[str, _Address]) -> JsonValue:
    """An input's value with the addresses of its pictures."""
    if isinstance(value, list):
        return [_fill(each, addresses) for each in value]
    if isinstance(value, str) and value.startswith(PICTURE_PREFIX) and value in addresses:
        return addresses[value].url
    return value


def _key_in(store: Store, uri: str) -> str | None:
    """The key of a picture that this project has made; None for a file of the user's."""
    if uri.startswith(f"{store.uri}/"):
        return uri.removeprefix(f"{store.uri}/")
    scheme, found, rest = uri.partition("://")
    if not found or scheme not in {"file", "s3"}:
        return None
    # The store was moved since: its keys are as before, and the checksum tells the bytes.
    return f"images/{rest.partition('/images/')[2]}"


def _read_file(picture: InputPicture) -> bytes:
    """Raises OSError; a file of another size is not read whole."""
    with Path(picture.uri).open("rb") as file:
        return file.read(picture.bytes + 1)
