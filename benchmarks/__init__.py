"""Measures what this package costs: CPU, double payments after a kill, and searches."""
