"""The command line: run, plan, trace, reproduce, verify, reindex, schema, emulator."""
