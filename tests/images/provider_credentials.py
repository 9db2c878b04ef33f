"""Files as a provider signs them: a manifest of its own, made with certificates of the tests."""

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from flux_pipeline.images import c2pa
from flux_pipeline.images.formats import detect_format
from tests.images.certificates import issue
from tests.images.samples import insert_xmp

Sign = Callable[[bytes], bytes]
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
DEFINITION: dict[str, Any] = {
    "claim_generator_info": [{"name": "provider", "version": "9"}],
    "assertions": [
        {
            "label": "c2pa.actions.v2",
            "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": SOURCE_TYPE}]},
        }
    ],
}


def provider(folder: Path, *, days: tuple[int, int] = (-1, 30), address: str = "") -> Sign:
    """Signs a file, the same one always alike; with an address the manifest lies there alone."""
    files = issue(folder, days=days)
    library = c2pa.native_library()
    chain, key = (path.read_bytes() for path in (files.certificate, files.key))
    signer = library.Signer.from_info(library.C2paSignerInfo("es256", chain, key, None))
    context = library.Context.from_dict(c2pa.SETTINGS, signer=signer)

    @cache
    def sign(body: bytes) -> bytes:
        signed = io.BytesIO()
        with c2pa.GATE.call(), library.Builder(DEFINITION, context=context) as builder:
            if address:
                builder.set_no_embed()
                builder.set_remote_url(address)
            builder.sign(c2pa.MEDIA_TYPES[detect_format(body)], io.BytesIO(body), signed)
        return signed.getvalue()

    return sign


def broken(signed: bytes) -> bytes:
    """The file as it is after somebody put XMP into it: its manifest is about other bytes."""
    return insert_xmp(signed, b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>")
