"""Certificates of a studio that signs its pictures, made for one test and trusted by nobody."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as pem
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PrivateKey = (
    ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | dsa.DSAPrivateKey
)
EMAIL = ExtendedKeyUsageOID.EMAIL_PROTECTION
TIMESTAMPS = ExtendedKeyUsageOID.TIME_STAMPING
SERVER = ExtendedKeyUsageOID.SERVER_AUTH


@dataclass(frozen=True)
class Files:
    certificate: Path
    """The signer's and its root's."""
    key: Path

    @property
    def paths(self) -> tuple[str, str]:
        return str(self.certificate), str(self.key)


def new_key(kind: str) -> PrivateKey:
    match kind:
        case "rsa":
            return rsa_key()
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "dsa":
            return dsa.generate_private_key(2048)
    return ec.generate_private_key({"p256": ec.SECP256R1, "p384": ec.SECP384R1}[kind]())


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    """One for all tests: it takes a tenth of a second to find."""
    return rsa.generate_private_key(65537, 2048)


def issue(
    folder: Path,
    kind: str = "p256",
    *,
    days: tuple[int, int] = (-1, 30),
    usage: x509.ObjectIdentifier = EMAIL,
) -> Files:
    """A key and its certificate by a root of its own, valid between these days from today."""
    folder.mkdir(parents=True, exist_ok=True)
    root_key, key = ec.generate_private_key(ec.SECP256R1()), new_key(kind)
    root = _certificate("Studio Root", root_key.public_key(), root_key, days, None)
    leaf = _certificate("Studio Pictures", key.public_key(), root_key, days, usage)
    files = Files(folder / "certificates.pem", folder / "key.pem")
    files.certificate.write_bytes(leaf + root)
    files.key.write_bytes(
        key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.NoEncryption())
    )
    return files


def _certificate(
    name: str,
    public: CertificatePublicKeyTypes,
    issuer: ec.EllipticCurvePrivateKey,
    days: tuple[int, int],
    usage: x509.ObjectIdentifier | None,
) -> bytes:
    """A root's certificate without ``usage``, one for signing with it."""
    first, last = (datetime.now(UTC) + timedelta(days=day) for day in days)
    is_root = usage is None
    builder = (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named("Studio Root"))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(first)
        .not_valid_after(last)
        .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not is_root,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=is_root,
                crl_sign=is_root,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()),
            critical=False,
        )
    )
    if usage is not None:
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([usage]), critical=usage == TIMESTAMPS
        )
    return builder.sign(issuer, hashes.SHA256()).public_bytes(pem.Encoding.PEM)


def _named(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Studio"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
