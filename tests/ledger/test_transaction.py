"""What keeps the ledger fast however large it grows: every query finds an index."""

import re
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from flux_pipeline.ledger import transaction
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.ledger.sql import SqlLedger


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlLedger]:
    with open_ledger(f"sqlite:///{tmp_path_factory.mktemp('ledger')}/ledger.db") as ledger:
        yield ledger


@pytest.mark.parametrize(
    ("statement", "values", "plan"),
    [
        (transaction.FIND, {"shas": ["a", "b"]}, r"SEARCH .* \(request_sha256=\?\)"),
        (transaction.HISTORY, {"sha": "a"}, r"SEARCH .* \(request_sha256=\?\)"),
        (
            transaction.UNFINISHED,
            {"before": 1.0, "most": 5},
            "SCAN .* INDEX flux_attempts_unrecorded",
        ),
        (transaction.IN_STATE, {"word": "held", "most": 5}, r"SEARCH .* \(state=\?\)"),
        (transaction.KNOWN_IDS, {"ids": ["a", "b"]}, "SEARCH .* INDEX flux_attempts_prediction"),
        (
            transaction.PAGE,
            {"sha": "a", "at": 1, "most": 5},
            r"SEARCH .*_1 \(\(request_sha256,number\)",
        ),
        (transaction.LATEST, {"sha": "a"}, r"SEARCH .* \(request_sha256=\?\)"),
        (
            transaction.ATTEMPT,
            {"sha": "a", "at": 1},
            r"SEARCH .* \(request_sha256=\? AND number=\?\)",
        ),
        (transaction.SAME_ACCEPTANCE, {"sha": "a", "key": "k"}, r"SEARCH .* \(request_sha256=\?\)"),
    ],
)
def test_a_query_searches_an_index(
    ledger: SqlLedger, statement: sa.Select[tuple[object]], values: dict[str, object], plan: str
) -> None:
    sent: list[tuple[str, tuple[object, ...]]] = []

    def keep(_: object, __: object, sql: str, parameters: tuple[object, ...], *___: object) -> None:
        sent.append((sql, parameters))

    with ledger.transaction() as tx:
        sa.event.listen(tx.connection, "before_cursor_execute", keep)
        tx.connection.execute(statement, values)
        sa.event.remove(tx.connection, "before_cursor_execute", keep)
        sql, parameters = sent[0]
        steps = tx.connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters).all()
    assert re.fullmatch(rf"{plan}.*", steps[0][3]), steps
    if statement is transaction.UNFINISHED:
        assert len(steps) == 1, "and nothing is sorted"
