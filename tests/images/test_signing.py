"""Signing from many threads, from forked processes, and by a function that holds the key."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as pem
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from flux_pipeline.errors import ConfigError, SigningError
from flux_pipeline.images.c2pa import GATE, native_library, read_manifest
from flux_pipeline.images.labels import Label
from flux_pipeline.images.signing import ManifestSigner, Sign, open_signer
from tests.images.certificates import Files, issue
from tests.images.samples import samples

pytest.importorskip("c2pa", reason="c2pa is missing: pip install 'flux-pipeline[c2pa]'")
BODY = samples()["lossy.webp"]
LABEL = Label(run_id="run", image_sha256="a" * 64)
KEY_HOLDER: list[Sign] = []


def sign_by_key_service(data: bytes) -> bytes:
    """What a setting names: as a function that asks a key service would."""
    return KEY_HOLDER[-1](data)


@pytest.fixture
def studio(tmp_path: Path) -> Files:
    return issue(tmp_path / "studio")


def must_open(certificate: str, key: str, authority: str = "") -> ManifestSigner:
    signer = open_signer(certificate, key, authority)
    assert signer is not None
    return signer


def is_good(body: bytes) -> bool:
    return read_manifest(body) == LABEL


def held_key(files: Files, *, raw: bool = False) -> Sign:
    """Signs as a key service does: ECDSA in DER or, with ``raw``, both numbers; RSA as PSS."""
    key = pem.load_pem_private_key(files.key.read_bytes(), None)

    def sign(data: bytes) -> bytes:
        if isinstance(key, rsa.RSAPrivateKey):
            digest = hashes.SHA256()
            return key.sign(data, padding.PSS(padding.MGF1(digest), 32), digest)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        found = key.sign(data, ec.ECDSA(hashes.SHA256()))
        if not raw:
            return found
        return b"".join(n.to_bytes(32) for n in utils.decode_dss_signature(found))

    return sign


@pytest.fixture
def key_function() -> Iterator[Callable[[Sign], str]]:
    """Makes a function reachable by a name, as a setting gives it."""

    def hold(sign: Sign) -> str:
        KEY_HOLDER.append(sign)
        return f"{__name__}:sign_by_key_service"

    yield hold
    KEY_HOLDER.clear()


@pytest.mark.parametrize(("kind", "raw"), [("p256", False), ("p256", True), ("rsa", False)])
def test_a_function_signs_in_place_of_a_file(
    kind: str, raw: bool, tmp_path: Path, key_function: Callable[[Sign], str]
) -> None:
    files = issue(tmp_path, kind)
    signer = must_open(str(files.certificate), key_function(held_key(files, raw=raw)))
    with ThreadPoolExecutor(8) as pool:
        signed = list(pool.map(lambda _: signer.sign(BODY, LABEL), range(32)))
    assert all(map(is_good, signed))


def test_a_function_with_another_key_is_found_out_before_anything_is_paid(
    studio: Files, tmp_path: Path, key_function: Callable[[Sign], str]
) -> None:
    other = held_key(issue(tmp_path / "other"))
    with pytest.raises(ConfigError, match=r"FLUX_C2PA_KEY: .*\(claimSignature.mismatch"):
        open_signer(str(studio.certificate), key_function(other))


def test_a_function_that_fails_is_an_error_for_one_image(
    studio: Files, key_function: Callable[[Sign], str]
) -> None:
    def fail(_: bytes) -> bytes:
        raise ConnectionError("the key service is away")

    signer = must_open(str(studio.certificate), key_function(held_key(studio)))
    KEY_HOLDER.append(fail)
    with pytest.raises(SigningError, match=r"image a{64} could not be signed"):
        signer.sign(BODY, LABEL)
    KEY_HOLDER.pop()
    assert is_good(signer.sign(BODY, LABEL))


def test_no_process_is_forked_while_an_image_is_signed_or_read(
    studio: Files, key_function: Callable[[Sign], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sign, signing, reading = held_key(studio), list[int](), list[int]()
    library = native_library()
    json_of = library.Reader.json

    def noting(data: bytes) -> bytes:
        signing.append(GATE.calls)
        return sign(data)

    def looking(reader: Any) -> Any:
        reading.append(GATE.calls)
        return json_of(reader)

    monkeypatch.setattr(library.Reader, "json", looking)
    assert is_good(must_open(str(studio.certificate), key_function(noting)).sign(BODY, LABEL))
    assert set(signing) == set(reading) == {1}


def test_threads_share_a_signer(studio: Files) -> None:
    signer = must_open(*studio.paths)
    bodies = [samples()[name] for name in ("rgb.png", "baseline.jpg", "lossy.webp")] * 20
    with ThreadPoolExecutor(8) as pool:
        signed = list(pool.map(lambda body: signer.sign(body, LABEL), bodies))
    assert len(set(signed)) == 60
    assert all(map(is_good, signed))


FORKING = """
import os, sys, threading, warnings
from flux_pipeline.images.labels import Label
from flux_pipeline.images.signing import open_signer
from flux_pipeline.images.c2pa import native_library, read_manifest
from tests.images.samples import samples

warnings.simplefilter("ignore")  # that a process with threads is forked
signer, body, label = open_signer(*sys.argv[1:]), samples()["lossy.webp"], Label(run_id="run")
assert read_manifest(signer.sign(body, label)) == label
stop = threading.Event()
def work():
    while not stop.is_set():
        signer.sign(body, label)
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
codes = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        good = all(read_manifest(signer.sign(body, label)) == label for _ in range(3))
        os._exit(0 if good else 1)
    codes.append(os.waitpid(child, 0)[1])
stop.set()
for thread in threads:
    thread.join()
assert read_manifest(signer.sign(body, label)) == label
print(codes)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_signs_while_threads_of_the_first_one_do(studio: Files) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKING, *studio.paths],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert (done.stderr, done.stdout.strip()) == ("", str([0] * 4))
