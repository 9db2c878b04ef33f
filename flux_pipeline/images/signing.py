"""Images signed with a C2PA manifest, the last thing that is done to a file.

What can be wrong with certificate and key is found when the signer is opened. A timestamp authority
is never waited for twice in a row, and never keeps an image from being signed.
"""

import importlib
import io
import logging
import os
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from flux_pipeline.errors import SigningError
from flux_pipeline.images.c2pa import (
    LOAD_ERRORS,
    MEDIA_TYPES,
    SETTINGS,
    definition,
    inspect_manifest,
    native_library,
)
from flux_pipeline.images.containers import detect_format
from flux_pipeline.images.credentials import (
    AUTHORITY_VARIABLE,
    CERT_VARIABLE,
    KEY_VARIABLE,
    Credentials,
    load_credentials,
    setting_error,
)
from flux_pipeline.images.forks import GATE
from flux_pipeline.images.label import Label
from flux_pipeline.settings import parse_authority

log = logging.getLogger(__name__)
_REST_SECONDS = 300.0
"""How long an authority that failed is not asked: each try may cost a thread 30 s."""


class ManifestSigner:
    """Signs images with one certificate. Thread-safe.

    The native parts are made once a process, and again in a forked one, where the old ones are
    dead. A fork waits for the signing under way, see ``forks``.
    """

    __slots__ = ("_authority", "_clock", "_credentials", "_native", "_resting_until", "_told")

    def __init__(
        self,
        credentials: Credentials,
        authority: str = "",
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._credentials = credentials
        self._authority = authority
        self._clock = clock
        self._native: tuple[int, Any, Any] | None = None
        self._resting_until = 0.0
        self._told = False

    def sign(self, body: bytes, label: Label) -> bytes:
        """The same image with a manifest in place of any that it had; the coded pixels are kept.

        An authority that fails is left out, said in the log once, and asked again after 300 s. The
        bytes differ each time.

        Raises:
            SigningError: The key's function failed, or the file can't hold a manifest.
            ImageError: The bytes are no image.
        """
        media_type = MEDIA_TYPES[detect_format(body)]
        plain, timed = self._contexts()
        stamped = timed is not None and self._clock() >= self._resting_until
        failure = ""
        if stamped:
            try:
                return _sign(timed, media_type, body, label)
            except SigningError as error:
                failure = str(error)
        signed = _sign(plain, media_type, body, label)
        if stamped:  # so it was the authority, not the key
            self._rest(failure)
        return signed

    def _rest(self, failure: str) -> None:
        self._resting_until = self._clock() + _REST_SECONDS
        if not self._told:
            self._told = True
            host = urlsplit(self._authority).hostname
            log.warning(
                "timestamp authority %s gave none: images are signed without one while it fails"
                " (%s)",
                host,
                re.sub(r"https?://\S*[^\s)]", f"{host}", failure),
            )

    def _contexts(self) -> tuple[Any, Any]:
        """The native context without an authority and, where there is one, that with it."""
        native, process = self._native, os.getpid()
        if native is None or native[0] != process:
            # Two threads may both make them; either's are as good.
            with GATE.call():
                plain = _context(self._credentials)
                timed = _context(self._credentials, self._authority) if self._authority else None
            native = self._native = process, plain, timed
        return native[1:]


def open_signer(certificate: str, key: str, authority: str = "") -> ManifestSigner | None:
    """Make a signer and sign a trial image with it; None where no certificate is given.

    ``certificate`` is the path of a PEM file with the chain, the signer's first; ``key`` that of
    its key, or ``module:function``; ``authority`` the URL of a timestamp authority, which is not
    asked yet.

    Raises:
        ConfigError: What is wrong with which setting; never with the key's content.
    """
    if not certificate and not key:
        if authority:
            raise setting_error(CERT_VARIABLE, "is not set, but a timestamp authority is")
        return None
    for variable, value in ((CERT_VARIABLE, certificate), (KEY_VARIABLE, key)):
        if not value:
            raise setting_error(variable, "is not set: signing needs a certificate and a key")
    try:
        importlib.import_module("cryptography")
        native_library()
    except LOAD_ERRORS as error:
        raise setting_error(
            CERT_VARIABLE, f"needs packages: pip install 'flux-pipeline[c2pa]' ({error})"
        ) from None
    if authority:
        try:
            parse_authority(authority)
        except ValueError as mistake:
            raise setting_error(AUTHORITY_VARIABLE, str(mistake)) from None
    credentials = load_credentials(certificate, key)
    _try_out(ManifestSigner(credentials), key)
    return ManifestSigner(credentials, authority)


def _context(credentials: Credentials, authority: str = "") -> Any:
    library = native_library()
    chain, tsa = credentials.chain.decode(), authority or None
    try:
        if credentials.sign is not None:
            algorithm = library.C2paSigningAlg[credentials.algorithm.upper()]
            signer = library.Signer.from_callback(credentials.sign, algorithm, chain, tsa)
        else:
            signer = library.Signer.from_info(
                library.C2paSignerInfo(
                    credentials.algorithm, credentials.chain, credentials.key, tsa
                )
            )
        return library.Context.from_dict(SETTINGS, signer=signer)
    except library.C2paError as error:
        raise SigningError(f"the signing key can't be used ({error})") from None


def _sign(context: Any, media_type: str, body: bytes, label: Label) -> bytes:
    library = native_library()
    signed = io.BytesIO()
    try:
        with GATE.call(), library.Builder(definition(label), context=context) as builder:
            builder.sign(media_type, io.BytesIO(body), signed)
    except library.C2paError as error:
        raise SigningError(f"image {label.produce_id} could not be signed ({error})") from None
    return signed.getvalue()


def _try_out(signer: ManifestSigner, key: str) -> None:
    """Find out before anything is paid. Raises ConfigError."""
    trial = io.BytesIO()
    Image.new("L", (1, 1)).save(trial, "PNG")
    try:
        manifest = inspect_manifest(
            signer.sign(trial.getvalue(), Label(image_sha256="of the trial"))
        )
    except SigningError as error:
        raise setting_error(
            CERT_VARIABLE, f"and {KEY_VARIABLE} ({key}) can't sign a trial image: {error}"
        ) from None
    if manifest is None or not manifest.valid:
        found = ", ".join(manifest.problems) if manifest else "no manifest"
        raise setting_error(
            KEY_VARIABLE, f"{key} gave a signature that the certificate does not bear out ({found})"
        )
