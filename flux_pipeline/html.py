"""Renders the HTML pages that the pipeline writes, from Jinja2 templates beside the code.

Every value is escaped, except where a template says ``safe``. Jinja2 takes 0.1 s to import, so it
is imported when the first page is made.
"""

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


def render_template(package: str, path: str, **values: Any) -> str:
    """The template at ``path`` inside a package, filled in; a value that it lacks is an error."""
    return _environment(package).get_template(path).render(values)


def read_text(package: str, path: str) -> str:
    """A style sheet or script that lies inside a package."""
    return (files(package) / path).read_text(encoding="utf-8")


def csp_hash(text: str) -> str:
    """The source in a Content-Security-Policy that allows exactly this inline style or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _environment(package: str) -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415

    return Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
