"""Where an image comes from, and the same image made again."""
