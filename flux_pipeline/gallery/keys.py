"""Where the files of the galleries lie in the store, and what the page calls them."""

GALLERIES = "galleries/"
OVERVIEW = f"{GALLERIES}index.html"
"""The page over all prompt sets."""


def gallery_key(prompt_set: str) -> str:
    """The page of one prompt set: what a person opens."""
    return f"{GALLERIES}{prompt_set}/index.html"


def manifest_key(prompt_set: str) -> str:
    """What its pages hold."""
    return f"{GALLERIES}{prompt_set}/manifest.parquet"


def summary_key(prompt_set: str) -> str:
    """What the page over all prompt sets needs to know of this one."""
    return f"{GALLERIES}{prompt_set}/summary.json"


def data_key(kind: str, prompt_set: str, page: int) -> str:
    """A file of data; ``kind`` is ``rows`` or ``details``."""
    return f"{GALLERIES}{prompt_set}/{kind}-{page:05d}.js"
