"""The prediction API over HTTP: create, poll, list, cancel and download."""
