"""Reads and writes the file of a model's contract, ``models/<owner>/<name>.yaml``."""

import re
from pathlib import Path
from typing import Any

import yaml

from flux_pipeline.errors import ConfigError, Problem
from flux_pipeline.models.contract import Contract, parse_contract

MAX_BYTES = 2**20
_HEADER = """\
# The contract of a model, written by `flux-pipeline model add`; committed, and read when images are
# made. What stands above `inputs` may be mended by hand: the price, and what each input is for.
"""


def load_contract(path: Path) -> "Contract":
    """The contract of one file.

    Raises:
        ConfigError: With everything that is wrong with it.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise _problem(path, f"is larger than {MAX_BYTES:,} bytes: no model's contract is")
        value = yaml.load(data, _Loader)  # noqa: S506 - a loader that makes plain values alone
    except OSError as error:
        raise _problem(path, f"can't be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise _problem(path, f"is no YAML: {error}") from None
    if not isinstance(value, dict):
        raise _problem(path, "is no mapping: a contract has the keys model, version, inputs, …")
    return parse_contract(value, str(path))


def dump_contract(contract: Contract) -> str:
    """The text of a contract's file."""
    given = contract.model_dump(mode="json", exclude_defaults=True)
    given.setdefault("price", {})  # stands there to be filled in
    text = yaml.dump(
        {name: given[name] for name in Contract.model_fields if name in given},
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=100,
        default_flow_style=None,
    )
    return _HEADER + text


def _problem(path: Path, message: str) -> ConfigError:
    return ConfigError([Problem(str(path), 0, "", message)])


class _Loader(yaml.SafeLoader):
    """Reads numbers, true, false and null alone as such; 16:9, yes and dates stay text."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 - PyYAML's own form


class _Dumper(yaml.SafeDumper):
    """Quotes every text that the loader, or another reader of YAML, would take for a number."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """A text, quoted where it has a rare line end: plain YAML makes a space of that."""
        style = '"' if any(end in text for end in _RARE_LINE_ENDS) else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_RARE_LINE_ENDS = "\r\x85\u2028\u2029"
_Dumper.add_representer(str, _Dumper.represent_text)


for _tag, _pattern, _first in (
    ("bool", r"(?:true|false)", "tf"),
    ("int", r"-?(?:0|[1-9][0-9]*)", "-0123456789"),
    ("float", r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", "-0123456789"),
    ("null", r"(?:null|)", ["n", ""]),
):
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(rf"^{_pattern}$"), list(_first)
        )
