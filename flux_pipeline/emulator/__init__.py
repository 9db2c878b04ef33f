"""The prediction API in a box: an ASGI app for embedded use, tests and benchmarks."""
