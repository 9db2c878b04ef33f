"""What a C2PA manifest is signed with: certificates, and a key or a function that holds one."""

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from flux_pipeline.errors import ConfigError, Problem

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import (
        CertificatePublicKeyTypes,
        PrivateKeyTypes,
    )

CERT_VARIABLE = "FLUX_C2PA_CERT"
KEY_VARIABLE = "FLUX_C2PA_KEY"
AUTHORITY_VARIABLE = "FLUX_C2PA_TSA"
Sign = Callable[[bytes], bytes]

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


@dataclass(frozen=True, slots=True)
class Credentials:
    """Certificates and what signs for them; exactly one of ``key`` and ``sign`` is there."""

    algorithm: str
    """``es256``, ``es384``, ``es512``, ``ps256`` or ``ed25519``, by the certificate's own key."""
    chain: bytes
    """PEM, the signer's certificate first."""
    key: bytes | None = field(repr=False)
    """PEM, PKCS #8."""
    sign: Sign | None
    """Given the bytes to be signed, gives the signature."""


def load_credentials(certificate: str, key: str) -> Credentials:
    """Read the certificates' PEM file, and the key's, or import ``module:function``.

    Whether the key is the certificate's is checked for a file only; a function is not called. No
    message holds anything of what a file says. It needs the package cryptography.

    Raises:
        ConfigError: A file or a function isn't there or isn't what it should be.
    """
    chain = _read(CERT_VARIABLE, certificate)
    public, algorithm = _leaf(chain, certificate)
    if _FUNCTION.fullmatch(key):
        return Credentials(algorithm, chain, None, _function(key))
    return Credentials(algorithm, chain, _private(_read(KEY_VARIABLE, key), key, public), None)


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


def _leaf(chain: bytes, path: str) -> tuple["CertificatePublicKeyTypes", str]:
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


def _private(text: bytes, path: str, public: "CertificatePublicKeyTypes") -> bytes:
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


def _function(name: str) -> Sign:
    module, _, attribute = name.partition(":")
    try:
        found: Sign = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise setting_error(KEY_VARIABLE, f"{name} can't be imported ({error})") from None
    if not callable(found):
        raise setting_error(KEY_VARIABLE, f"{name} is no function")
    return found
