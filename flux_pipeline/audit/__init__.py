"""Everything held against everything: what is lost, held or unrecorded is found, and mended."""
