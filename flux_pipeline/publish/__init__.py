"""Publishes chosen pictures of a prompt set: as variants, under names, with an index."""
