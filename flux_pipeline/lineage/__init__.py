"""What is recorded of every image asked for, and how it is found again."""
