"""What keeps the ledger fast however large it grows: every query finds an index."""

import re
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from flux_pipeline.ledger import transaction as queries
from flux_pipeline.ledger import transaction as statements
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.ledger.sql import SqlLedger


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlLedger]:
    with open_ledger(f"sqlite:///{tmp_path_factory.mktemp('ledger')}/ledger.db") as ledger:
        yield ledger


@pytest.mark.parametrize(
    ("statement", "values", "plan"),
    [
        (queries.FIND, {"shas": ["a", "b"]}, r"SEARCH .* \(request_sha256=\?\)"),
        (queries.HISTORY, {"sha": "a"}, r"SEARCH .* \(request_sha256=\?\)"),
        (queries.UNFINISHED, {"before": 1.0, "most": 5}, "SCAN .* INDEX flux_attempts_unrecorded"),
        (queries.IN_STATE, {"word": "held", "most": 5}, r"SEARCH .* \(state=\?\)"),
        (queries.KNOWN_IDS, {"ids": ["a", "b"]}, "SEARCH .* INDEX flux_attempts_prediction"),
        (
            queries.PAGE,
            {"sha": "a", "at": 1, "most": 5},
            r"SEARCH .*_1 \(\(request_sha256,number\)",
        ),
        (statements.LATEST, {"sha": "a"}, r"SEARCH .* \(request_sha256=\?\)"),
        (statements.ATTEMPT, {"sha": "a", "at": 1}, r"SEARCH .* \(request_sha256=\? AND number=\?\)"),
        (statements.SAME_ACCEPTANCE, {"sha": "a", "key": "k"}, r"SEARCH .* \(request_sha256=\?\)"),
    ],
)
def test_a_query_searches_an_index(
    ledger: SqlLedger, statement: sa.Select[tuple[object]], values: dict[str, object], plan: str
) -> None:
    sent: list[tuple[str, tuple[object, ...]]] = []

    def keep(_: object, __: object, sql: str, parameters: tuple[object, ...], *___: object) -> None:
        sent.append((sql, parameters))

    with ledger.transaction() as calls:
        sa.event.listen(calls.connection, "before_cursor_execute", keep)
        calls.connection.execute(statement, values)
        sa.event.remove(calls.connection, "before_cursor_execute", keep)
        sql, parameters = sent[0]
        steps = calls.connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters).all()
    assert re.fullmatch(rf"{plan}.*", steps[0][3]), steps
    if statement is queries.UNFINISHED:
        assert len(steps) == 1, "and nothing is sorted"
