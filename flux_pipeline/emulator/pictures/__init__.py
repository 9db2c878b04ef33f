"""Demo pictures: drawn from a digest and a prompt, and encoded as the API would."""
