"""Remembers under which addresses the provider was sent a picture, and until when each is good.

One file is uploaded once in its life, whoever needs it. Addresses that are no longer good are kept
too, because a lost create is found in the provider's list by the address that was sent.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from flux_pipeline.ledger.schema import UPLOADS
from flux_pipeline.ledger.sql import SqlLedger


@dataclass(frozen=True, slots=True)
class Upload:
    """One file at one provider, or an address of it in our own store."""

    sha256: str
    """64 hex digits, of the bytes."""
    url: str = field(repr=False)
    """Without a signature where it is a link to the store."""
    file_id: str = ""
    """The provider's; empty for a link."""
    expires_at: float = 0.0
    """Unix seconds; at 0 it is not used again."""


@dataclass(frozen=True, slots=True)
class SqlUploads:
    """The uploads of one provider, in the database of an open ledger. Blocking and thread-safe.

    What is added is durable when that returns: it is sent only after that.
    """

    ledger: SqlLedger
    provider: str

    def find(self, sha256: str) -> Upload | None:
        """The upload of a file that is good the longest. Raises LedgerError."""
        with self.ledger.read_transaction() as tx:
            row = tx.connection.execute(_BEST, {"at": self.provider, "sha": sha256}).first()
        return None if row is None else Upload(*row)

    def addresses(self, sha256s: Collection[str]) -> Mapping[str, Collection[str]]:
        """Every address under which these files were ever sent. Raises LedgerError."""
        found: dict[str, set[str]] = {}
        with self.ledger.read_transaction() as tx:
            values = {"at": self.provider, "shas": list(sha256s)}
            for sha256, url in tx.connection.execute(_ADDRESSES, values):
                found.setdefault(sha256, set()).add(url)
        return found

    def add(self, upload: Upload) -> None:
        """Remember an upload; the same address again has the new end. Raises LedgerError."""
        key = {"at": self.provider, "sha": upload.sha256, "address": upload.url}
        with self.ledger.transaction() as tx:
            if tx.connection.execute(_RENEW, {**key, "end": upload.expires_at}).rowcount:
                return
            tx.connection.execute(
                UPLOADS.insert(),
                {
                    "provider": self.provider,
                    "sha256": upload.sha256,
                    "url": upload.url,
                    "file_id": upload.file_id,
                    "expires_at": upload.expires_at,
                },
            )

    def retire(self, sha256s: Collection[str]) -> None:
        """Never send these files' known addresses again. Raises LedgerError."""
        with self.ledger.transaction() as tx:
            tx.connection.execute(_RETIRE, {"at": self.provider, "shas": list(sha256s)})


_c = UPLOADS.c
_HERE = _c.provider == sa.bindparam("at")
_ANY = _c.sha256.in_(sa.bindparam("shas", expanding=True))
_BEST = (
    sa.select(_c.sha256, _c.url, _c.file_id, _c.expires_at)
    .where(_HERE, _c.sha256 == sa.bindparam("sha"), _c.file_id != "")
    .order_by(_c.expires_at.desc())
    .limit(1)
)
_ADDRESSES = sa.select(_c.sha256, _c.url).where(_HERE, _ANY)
_RENEW = (
    UPLOADS.update()
    .where(_HERE, _c.sha256 == sa.bindparam("sha"), _c.url == sa.bindparam("address"))
    .values(expires_at=sa.bindparam("end"))
)
_RETIRE = UPLOADS.update().where(_HERE, _ANY).values(expires_at=0.0)
