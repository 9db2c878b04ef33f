"""Public names of a package that are imported when they are asked for.

A package's ``__init__`` lists what others may import from it. With these functions it offers the
names without importing their modules, so that importing the package costs nothing.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any
from warnings import warn


def lazy_names(
    package: str, homes: Mapping[str, str], renamed: Mapping[str, str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the module functions ``__getattr__`` and ``__dir__`` of a package.

    ``homes`` maps each public name to the module that defines it; ``renamed`` maps an old name to
    the new one. An old name gives a ``FutureWarning``: Dagster hides deprecation warnings while it
    loads components. Type checkers need the same imports in an ``if TYPE_CHECKING:``.
    """
    old_names = renamed or {}

    def find(name: str) -> Any:
        if name in old_names:
            new = old_names[name]
            warn(f"{package}.{name} is {package}.{new} now", FutureWarning, stacklevel=2)
            name = new
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes[name]), name)

    def names() -> list[str]:
        # Dunder names too: without them `dg list components` takes the package for no package.
        return sorted([*vars(import_module(package)), *homes])

    return find, names
