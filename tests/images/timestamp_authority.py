"""A timestamp authority on loopback: OpenSSL behind HTTP, and one that fails."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from tests.images.certificates import TIMESTAMPS, issue

_CONFIG = """
[tsa]
default_tsa = studio
[studio]
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/certificates.pem
certs = {folder}/certificates.pem
signer_key = {folder}/key.pem
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
ess_cert_id_chain = no
"""


class Authority(ThreadingHTTPServer):
    """Counts what it is asked; answers only while it works."""

    asked = 0
    works = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        issue(folder, usage=TIMESTAMPS)
        (folder / "serial").write_text("01")
        (folder / "openssl.cnf").write_text(_CONFIG.format(folder=folder))
        self.folder = folder

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/stamp"

    def stamp(self, query: bytes) -> bytes:
        (self.folder / "query").write_bytes(query)
        command = ["openssl", "ts", "-reply", "-config", self.folder / "openssl.cnf"]
        return subprocess.run(
            [*command, "-queryfile", self.folder / "query"], capture_output=True, check=True
        ).stdout


class _Handler(BaseHTTPRequestHandler):
    server: Authority

    def do_POST(self) -> None:
        query = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked += 1
        body = self.server.stamp(query) if self.server.works else b""
        self.send_response(200 if self.server.works else 503)
        self.send_header("content-type", "application/timestamp-reply")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


@contextmanager
def running_authority(folder: Path) -> Iterator[Authority]:
    with Authority(folder) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
