"""Signs images with a C2PA manifest, the last thing that is done to a file.

A mistake in the certificate or the key is found when the signer is opened. A timestamp authority
that fails is left alone for a while, and never keeps an image from being signed.
"""

import importlib
import io
import json
import logging
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from PIL import Image

from flux_pipeline.errors import ConfigError, Problem, SigningError
from flux_pipeline.images.c2pa import (
    GATE,
    LOAD_ERRORS,
    PARENT,
    SETTINGS,
    Edit,
    inspect_manifest,
    manifest_definition,
    media_type_of,
    native_library,
)
from flux_pipeline.images.labels import Label
from flux_pipeline.settings import parse_timestamp_authority

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import (
        CertificatePublicKeyTypes,
        PrivateKeyTypes,
    )

CERT_VARIABLE = "FLUX_C2PA_CERT"
KEY_VARIABLE = "FLUX_C2PA_KEY"
AUTHORITY_VARIABLE = "FLUX_C2PA_TSA"
Sign = Callable[[bytes], bytes]
"""Given the bytes to be signed, returns the signature."""
log = logging.getLogger(__name__)
_AUTHORITY_PAUSE = 300.0
"""s during which an authority that failed is not asked: each try may cost a thread 30 s."""
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


@dataclass(frozen=True, slots=True)
class Credentials:
    """Certificates and their private key, or a function that signs in its place, never both."""

    algorithm: str
    """``es256``, ``es384``, ``es512``, ``ps256`` or ``ed25519``, by the certificate's own key."""
    chain: bytes
    """PEM, the signer's certificate first."""
    key: bytes | None = field(repr=False)
    """PEM, PKCS #8."""
    sign: Sign | None


class ManifestSigner:
    """Signs images with one certificate. Thread-safe.

    The native contexts are made once a process, and again in a forked one, where the old ones are
    dead. A fork waits for signing that is under way, see ``c2pa.ForkGate``.
    """

    __slots__ = ("_authority", "_clock", "_credentials", "_logged", "_native", "_paused_until")

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
        self._paused_until = 0.0
        self._logged = False

    def sign(self, body: bytes, label: Label, *, parent: bytes | None = None) -> bytes:
        """The same image with a manifest in place of any that it had; the coded pixels are kept.

        ``parent`` is the file as it was received, before its label: where it is given, its manifest
        is kept beside ours, which names it as the ingredient that it follows and says how valid it
        was.

        Where the timestamp authority fails, the image is signed without a timestamp; that is logged
        once, and the authority is asked again after 300 s. The bytes differ each time.

        Raises:
            SigningError: The key's function failed, or the file can't hold a manifest.
            ImageError: The bytes are no image.
        """
        if parent is None:
            return self._sign(body, label)
        return self._sign(body, label, _Parent("as received", parent, (Edit.LABELLED,)))

    def sign_edit(
        self, body: bytes, label: Label, *, original: bytes, edits: Sequence[Edit]
    ) -> bytes:
        """A picture that was made of another one, signed as its edit, in webp, avif, jpg or png.

        ``original`` becomes the ingredient, with the manifest that it has; ``edits`` says what was
        done to it, at least one thing. Timestamps and errors are those of ``sign``.
        """
        return self._sign(body, label, _Parent("original", original, tuple(edits)))

    def _sign(self, body: bytes, label: Label, parent: "_Parent | None" = None) -> bytes:
        plain, timed = self._contexts()
        stamped = timed is not None and self._clock() >= self._paused_until
        failure = ""
        if stamped:
            try:
                return _sign(timed, body, label, parent)
            except SigningError as error:
                failure = str(error)
        signed = _sign(plain, body, label, parent)
        if stamped:  # the key works, so it was the authority that failed
            self._pause_authority(failure)
        return signed

    def _pause_authority(self, failure: str) -> None:
        self._paused_until = self._clock() + _AUTHORITY_PAUSE
        if not self._logged:
            self._logged = True
            host = urlsplit(self._authority).hostname
            log.warning(
                "timestamp authority %s gave none: images are signed without one while it fails"
                " (%s)",
                host,
                re.sub(r"https?://\S*[^\s)]", f"{host}", failure),
            )

    def _contexts(self) -> tuple[Any, Any]:
        """The native contexts without an authority and, where one is configured, with it."""
        native, process = self._native, os.getpid()
        if native is None or native[0] != process:
            # Two threads may both make them; either pair will do.
            with GATE.call():
                plain = _make_context(self._credentials)
                timed = (
                    _make_context(self._credentials, self._authority) if self._authority else None
                )
            native = self._native = process, plain, timed
        return native[1:]


@dataclass(frozen=True, slots=True)
class _Parent:
    """The file that a picture was made of, which its manifest follows."""

    title: str
    body: bytes = field(repr=False)
    edits: tuple[Edit, ...]

    @property
    def ingredient(self) -> str:
        named = {"title": self.title, "relationship": "parentOf", "label": PARENT}
        return json.dumps(named)


def _sign(context: Any, body: bytes, label: Label, parent: _Parent | None) -> bytes:
    library = native_library()
    signed = io.BytesIO()
    media_type = media_type_of(body)
    definition = manifest_definition(label, parent.edits if parent else ())
    try:
        with GATE.call(), library.Builder(definition, context=context) as builder:
            if parent is not None:
                parents_type = media_type_of(parent.body)
                builder.add_ingredient(parent.ingredient, parents_type, io.BytesIO(parent.body))
            builder.sign(media_type, io.BytesIO(body), signed)
    except library.C2paError as error:
        raise SigningError(f"image {label.produce_id} could not be signed ({error})") from None
    return signed.getvalue()


def _make_context(credentials: Credentials, authority: str = "") -> Any:
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


def open_signer(certificate: str, key: str, authority: str = "") -> ManifestSigner | None:
    """Make a signer and sign a trial image with it; None where no certificate is given.

    ``certificate`` is the path of a PEM file with the chain, the signer's first; ``key`` that of
    its key, or ``module:function``; ``authority`` the URL of a timestamp authority, which is not
    asked yet.

    Raises:
        ConfigError: It names the setting and its mistake, never the key's content.
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
            parse_timestamp_authority(authority)
        except ValueError as mistake:
            raise setting_error(AUTHORITY_VARIABLE, str(mistake)) from None
    credentials = load_credentials(certificate, key)
    _try_out(ManifestSigner(credentials), key)
    return ManifestSigner(credentials, authority)


def _try_out(signer: ManifestSigner, key: str) -> None:
    """Sign a trial image and verify it, before anything is paid. Raises ConfigError."""
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


def load_credentials(certificate: str, key: str) -> Credentials:
    """Read the certificates' PEM file, and the key's, or import ``module:function``.

    Whether the key is the certificate's is checked for a file only; a function is not called. No
    message holds anything of what a file says. It needs the package cryptography.

    Raises:
        ConfigError: A file or a function isn't there or isn't what it should be.
    """
    chain = _read(CERT_VARIABLE, certificate)
    public, algorithm = _leaf_key(chain, certificate)
    if _FUNCTION.fullmatch(key):
        return Credentials(algorithm, chain, None, _import_function(key))
    return Credentials(algorithm, chain, _private_key(_read(KEY_VARIABLE, key), key, public), None)


def setting_error(variable: str, message: str) -> ConfigError:
    """The error for one setting of the environment."""
    return ConfigError([Problem("environment", 0, variable, message)])


def _read(variable: str, path: str) -> bytes:
    if "-----" in path:
        raise setting_error(variable, "holds PEM itself: put it into a file and give its path")
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no path"
        raise setting_error(variable, f"{path} can't be read ({reason})") from None


def _leaf_key(chain: bytes, path: str) -> tuple["CertificatePublicKeyTypes", str]:
    """The key of the first certificate, and the algorithm that it signs with."""
    from cryptography import x509  # noqa: PLC0415 - of the extra, 60 ms
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: PLC0415

    try:
        first, *_ = x509.load_pem_x509_certificates(chain)
        public = first.public_key()
    except ValueError:
        raise setting_error(
            CERT_VARIABLE, f"{path} holds no certificates in PEM (the signer's own first)"
        ) from None
    algorithm = None
    if isinstance(public, ec.EllipticCurvePublicKey):
        algorithm = _CURVES.get(public.curve.name)
    elif isinstance(public, rsa.RSAPublicKey):
        algorithm = "ps256"
    elif isinstance(public, ed25519.Ed25519PublicKey):
        algorithm = "ed25519"
    if algorithm is None:
        raise setting_error(
            CERT_VARIABLE,
            f"{path} is for a kind of key that C2PA doesn't sign with: use P-256, P-384, P-521,"
            " RSA or Ed25519",
        )
    return public, algorithm


def _private_key(text: bytes, path: str, public: "CertificatePublicKeyTypes") -> bytes:
    """The key as PKCS #8, whatever PEM form it had."""
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives import serialization as pem  # noqa: PLC0415

    try:
        key: PrivateKeyTypes = pem.load_pem_private_key(text, password=None)
    except TypeError:
        raise setting_error(
            KEY_VARIABLE, f"{path} is encrypted: give the key without a password, or a function"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise setting_error(KEY_VARIABLE, f"{path} holds no private key in PEM") from None
    form = pem.Encoding.DER, pem.PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*form) != public.public_bytes(*form):
        raise setting_error(
            KEY_VARIABLE, f"{path} is not the key of the first certificate in {CERT_VARIABLE}"
        )
    return key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.NoEncryption())


def _import_function(name: str) -> Sign:
    module, _, attribute = name.partition(":")
    try:
        found: Sign = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise setting_error(KEY_VARIABLE, f"{name} can't be imported ({error})") from None
    if not callable(found):
        raise setting_error(KEY_VARIABLE, f"{name} is no function")
    return found
