"""What this package costs beside a bare loop; see ``overhead.py``."""
