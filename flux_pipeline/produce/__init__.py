"""The one algorithm: reserve, create, wait, download, inspect, label, store, settle, record."""
