"""Words that people read: a number and its noun."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return ``1 image`` or ``1,200 images``; ``plural`` where an s does not make it."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
