"""What is noted about a ledger itself, on both databases."""

import pytest

from flux_pipeline.ledger.open import open_ledger
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
