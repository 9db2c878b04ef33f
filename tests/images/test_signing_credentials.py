"""Certificates and keys: which are taken, and what is said of the others."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as pem

from flux_pipeline.errors import ConfigError
from flux_pipeline.images.signing import load_credentials, open_signer
from tests.images.certificates import SERVER, Files, issue
from tests.images.test_signing import BODY, LABEL, is_good, must_open

pytest.importorskip("c2pa", reason="c2pa is missing: pip install 'flux-pipeline[c2pa]'")
NO_FUNCTION = "no function"


@pytest.fixture
def studio(tmp_path: Path) -> Files:
    return issue(tmp_path / "studio")


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [("p256", "es256"), ("p384", "es384"), ("rsa", "ps256"), ("ed25519", "ed25519")],
)
def test_algorithm_follows_from_the_certificate(kind: str, algorithm: str, tmp_path: Path) -> None:
    paths = issue(tmp_path, kind).paths
    assert load_credentials(*paths).algorithm == algorithm
    assert is_good(must_open(*paths).sign(BODY, LABEL))


@pytest.mark.parametrize("kind", ["p256", "rsa"])
def test_older_forms_of_keys_are_read(kind: str, tmp_path: Path) -> None:
    files = issue(tmp_path, kind)
    key = pem.load_pem_private_key(files.key.read_bytes(), None)
    form = pem.PrivateFormat.TraditionalOpenSSL
    files.key.write_bytes(key.private_bytes(pem.Encoding.PEM, form, pem.NoEncryption()))
    assert is_good(must_open(*files.paths).sign(BODY, LABEL))


def test_nothing_is_signed_where_nothing_is_configured() -> None:
    assert open_signer("", "") is None


def with_wrong_key(files: Files, folder: Path) -> tuple[str, str]:
    return str(files.certificate), str(issue(folder / "other").key)


def encrypted(files: Files, folder: Path) -> tuple[str, str]:
    key = pem.load_pem_private_key(files.key.read_bytes(), None)
    secret = pem.BestAvailableEncryption(b"hunter2")
    files.key.write_bytes(key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, secret))
    return files.paths


def written_over(name: str, text: bytes) -> Callable[[Files, Path], tuple[str, str]]:
    def spoil(files: Files, folder: Path) -> tuple[str, str]:
        getattr(files, name).write_bytes(text)
        return files.paths

    return spoil


def root_first(files: Files, folder: Path) -> tuple[str, str]:
    mark = b"-----BEGIN"
    _, leaf, root = files.certificate.read_bytes().split(mark)
    files.certificate.write_bytes(mark + root + mark + leaf)
    return files.paths


@pytest.mark.parametrize(
    ("spoil", "setting", "reason"),
    [
        (with_wrong_key, "FLUX_C2PA_KEY", "is not the key of the first certificate"),
        (root_first, "FLUX_C2PA_KEY", "is not the key of the first certificate"),
        (encrypted, "FLUX_C2PA_KEY", "is encrypted"),
        (written_over("key", b"canary-of-a-key"), "FLUX_C2PA_KEY", "holds no private key in PEM"),
        (written_over("key", b""), "FLUX_C2PA_KEY", "holds no private key in PEM"),
        (written_over("certificate", b"text"), "FLUX_C2PA_CERT", "holds no certificates in PEM"),
        (lambda f, _: (str(f.certificate), "/no/key.pem"), "FLUX_C2PA_KEY", "No such file"),
        (lambda f, _: ("/no/certificate.pem", str(f.key)), "FLUX_C2PA_CERT", "No such file"),
        (lambda f, d: (str(d), str(f.key)), "FLUX_C2PA_CERT", "Is a directory"),
        (lambda f, _: (str(f.certificate), ""), "FLUX_C2PA_KEY", "is not set"),
        (lambda f, _: ("", str(f.key)), "FLUX_C2PA_CERT", "is not set"),
        (lambda f, _: (f.paths[0], f.key.read_text()), "FLUX_C2PA_KEY", "holds PEM itself"),
        (lambda f, _: (f.paths[0], "no.such:thing"), "FLUX_C2PA_KEY", "can't be imported"),
        (lambda f, _: (f.paths[0], "os:no_such_thing"), "FLUX_C2PA_KEY", "can't be imported"),
        (lambda f, _: (f.paths[0], f"{__name__}:NO_FUNCTION"), "FLUX_C2PA_KEY", "is no function"),
        (lambda _, d: issue(d, "dsa").paths, "FLUX_C2PA_CERT", "use P-256"),
        (lambda _, d: issue(d, days=(-9, -2)).paths, "FLUX_C2PA_CERT", "not valid at time"),
        (lambda _, d: issue(d, usage=SERVER).paths, "FLUX_C2PA_CERT", "certificate is invalid"),
    ],
)
def test_what_can_not_sign_is_named_before_anything_is_paid(
    spoil: Callable[[Files, Path], tuple[str, str]],
    setting: str,
    reason: str,
    studio: Files,
    tmp_path: Path,
) -> None:
    secret = studio.key.read_text().splitlines()[1]
    with pytest.raises(ConfigError) as raised:
        open_signer(*spoil(studio, tmp_path))
    message = str(raised.value)
    assert message.startswith(f"environment: {setting}: ")
    assert reason in message
    assert secret not in message
    assert "canary" not in message


@pytest.mark.parametrize("package", ["c2pa", "cryptography"])
def test_a_missing_package_is_named_with_its_extra(
    package: str, studio: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=r"FLUX_C2PA_CERT: .*'flux-pipeline\[c2pa\]'"):
        open_signer(*studio.paths)


@pytest.mark.parametrize(
    ("authority", "reason"),
    [("timestamps.example", "is not the http"), ("https://t.example/?key=1", "a query")],
)
def test_an_authority_that_is_no_address_is_refused(
    authority: str, reason: str, studio: Files
) -> None:
    with pytest.raises(ConfigError, match=f"FLUX_C2PA_TSA: .*{reason}"):
        open_signer(*studio.paths, authority)
    with pytest.raises(ConfigError, match="FLUX_C2PA_CERT: is not set"):
        open_signer("", "", "http://timestamps.example")


def test_no_repr_holds_the_key(studio: Files) -> None:
    assert studio.key.read_text().splitlines()[1] not in repr(load_credentials(*studio.paths))
