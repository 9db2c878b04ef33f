"""Settings of the generated examples."""
