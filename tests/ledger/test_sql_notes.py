"""What is noted about a ledger itself, on both databases."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.ledger.schema import LEDGER_ID
from tests.ledger.attempts import begin, wipe


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_note_stands_until_another_takes_its_place(
    database: str, request: pytest.FixtureRequest
) -> None:
    server = request.getfixturevalue("postgres") if database == "postgres" else None
    url = server.url if server else request.getfixturevalue("sqlite_url")
    with open_ledger(url) as ledger:
        wipe(ledger)
        assert ledger.note(f"of {database}") is None
        for value in ("first", "second"):
            ledger.set_notes({f"of {database}": value})

    with open_ledger(url) as again:
        assert again.note(f"of {database}") == "second"
        assert again.is_empty()
        begin(again, 1)
        assert not again.is_empty()
        wipe(again)


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_ledger_has_one_id_for_all_that_open_it(
    database: str, request: pytest.FixtureRequest
) -> None:
    server = request.getfixturevalue("postgres") if database == "postgres" else None
    url = server.url if server else request.getfixturevalue("sqlite_url")
    with open_ledger(url) as one, open_ledger(url) as two, ThreadPoolExecutor(2) as pool:
        one.set_notes({LEDGER_ID: ""})  # as before the first call
        found = list(pool.map(lambda ledger: ledger.identify(), (one, two)))
        assert found == [one.note(LEDGER_ID)] * 2
        assert re.fullmatch(r"[0-9a-f]{32}", found[0])
