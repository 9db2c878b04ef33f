"""Objects in a folder or in S3, written once and checked."""
