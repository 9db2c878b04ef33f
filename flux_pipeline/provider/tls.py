"""The TLS of outgoing calls: which authorities are trusted, and what to do where one is not."""

import ssl
from functools import cache
from pathlib import Path

from flux_pipeline.network import CA_VARIABLES

_OF_AN_UNKNOWN_CA = frozenset({2, 18, 19, 20, 21, 24, 26, 27})
"""OpenSSL's codes (X509_V_ERR_*) for a chain that ends at nobody who is trusted."""


@cache
def verifying_context(ca_file: str = "") -> ssl.SSLContext:
    """Make the context that verifies certificates; loading the authorities takes 50 ms.

    With ``ca_file``, a PEM file or a folder as OpenSSL hashes it, only its authorities are
    trusted. Without, those of the system's store and those of ``certifi``, because the one may be
    empty in a container and the other knows no company.

    Raises:
        OSError: The file can't be read, or is no PEM (``ssl.SSLError``).
    """
    if not ca_file:
        import httpx  # noqa: PLC0415 - 0.1 s, where only a webhook is configured

        context = httpx.create_ssl_context(trust_env=False)
        context.load_default_certs()
        return context
    if Path(ca_file).is_dir():
        return ssl.create_default_context(capath=ca_file)
    return ssl.create_default_context(cafile=ca_file)


def find_ca_mistake(ca_file: str) -> str:
    """Why the authorities of a file can't be loaded; empty where they can."""
    try:
        verifying_context(ca_file)
    except ssl.SSLError:
        return f"{ca_file} holds no certificate in PEM: correct {', '.join(CA_VARIABLES)}"
    except OSError as error:
        return f"{ca_file}: {error.strerror}: correct {', '.join(CA_VARIABLES)}"
    return ""


def describe_failure(error: ssl.SSLCertVerificationError) -> str:
    """Why a certificate was refused, and what to set where the authority is not known."""
    why = f"certificate: {error.verify_message}"
    if error.verify_code not in _OF_AN_UNKNOWN_CA:
        return why
    return f"{why}; if an authority of your own has signed it, set SSL_CERT_FILE to its PEM file"
