"""Pure functions on the bytes of an image: structure, decoding, hashes, labels."""
