"""The statements that write attempts, each with its condition in its WHERE."""

import sqlalchemy as sa

from flux_pipeline.ledger.base import State
from flux_pipeline.ledger.rows import CLAIM_COLUMNS, COLUMNS
from flux_pipeline.ledger.schema import ATTEMPTS

_c = ATTEMPTS.c
_SAME_REQUEST = _c.request_sha256 == sa.bindparam("sha")
_ONE = (_SAME_REQUEST, _c.number == sa.bindparam("at", type_=sa.Integer))
_WAS = _c.state == sa.bindparam("was")
_CLAIMED = (
    _c.holder == sa.bindparam("by"),
    _c.claims == sa.bindparam("claim", type_=sa.Integer),
)
"""By this very claim: the same holder may have taken it over again after its lease."""
_AMONG = _c.state.in_(sa.bindparam("states", expanding=True))
_OPEN = [state.value for state in State if state.is_open]
_UPDATE_ONE = ATTEMPTS.update().where(*_ONE)

LATEST = sa.select(*CLAIM_COLUMNS).where(_SAME_REQUEST, _c.latest)
ROW = sa.select(*COLUMNS, _c.acceptance, _c.latest, _c.scopes).where(*_ONE)
HIGHEST = sa.select(sa.func.max(_c.number)).where(_SAME_REQUEST)
KEPT = sa.select(_c.number).where(_SAME_REQUEST, _c.acceptance == sa.bindparam("key"))

INSERT = ATTEMPTS.insert()
FOLLOW = _UPDATE_ONE.where(_c.latest, _c.state.not_in(_OPEN)).values(latest=False)
STAMP = _UPDATE_ONE.where(_c.state.in_(_OPEN), *_CLAIMED)
"""Sets the columns that it is given: those of the claim."""
ACCEPT = _UPDATE_ONE.where(_WAS).values(
    state=sa.bindparam("word"),
    acceptance=sa.bindparam("key"),
    prediction_id=sa.bindparam("id"),
    reply=sa.bindparam("raw"),
)
REOPEN = ACCEPT.values(error=None, retryable=False, images="[]", recorded=False)
SUCCEED = _UPDATE_ONE.where(_c.state == State.ACCEPTED.value).values(
    state=State.SUCCEEDED.value, reply=sa.bindparam("raw")
)
CLOSE = (
    _UPDATE_ONE.where(_AMONG)
    .where(sa.or_(_c.state != State.INTENT.value, sa.and_(*_CLAIMED)))
    .values(
        state=sa.bindparam("word"),
        error=sa.bindparam("message"),
        retryable=sa.bindparam("again"),
        images=sa.bindparam("records"),
        reply=sa.func.coalesce(sa.bindparam("raw"), _c.reply),
        resolution=sa.func.coalesce(sa.bindparam("how"), _c.resolution),
        recorded=False,
    )
    .returning(_c.cost_micros, _c.scopes, _c.acceptance)
)
MARK_RECORDED = (
    ATTEMPTS.update()
    .where(_c.request_sha256.in_(sa.bindparam("shas", expanding=True)), _c.latest)
    .where(_c.state.not_in(_OPEN))
    .values(recorded=True)
)
