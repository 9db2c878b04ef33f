"""The ledger: what was asked for, accepted, finished and spent, in SQLite or Postgres."""
