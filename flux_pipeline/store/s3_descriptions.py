"""What botocore knows of S3 and its endpoints: read once a process, in a third of the CPU.

botocore's own loader looks into the folders of all 400 services three times a client, 8 ms each,
and reads JSON into ordered dictionaries by way of Python.
"""

import gzip
import json
import os
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from botocore.loaders import JSONFileLoader, Loader


@lru_cache(maxsize=1)
def service_descriptions(search_path: str | None) -> "ServiceDescriptions":
    """The loader for the clients of this process; ``search_path`` is that of AWS_DATA_PATH.

    A run opens its store several times.
    """
    paths = search_path.split(os.pathsep) if search_path else []
    expanded = [str(Path(os.path.expandvars(path)).expanduser()) for path in paths]
    return ServiceDescriptions(extra_search_paths=expanded, file_loader=DescriptionFiles())


class ServiceDescriptions(Loader):
    """As botocore's own, but for the list of all services: what is looked for is one by name."""

    def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002
        """The names of all folders; botocore finds out later whether one holds ``type_name``."""
        folders = [Path(path) for path in self.search_paths]
        return sorted(
            {each.name for folder in folders if folder.is_dir() for each in folder.iterdir()}
        )


class DescriptionFiles(JSONFileLoader):
    """Reads them into plain dictionaries, which keep their order as well."""

    def load_file(self, file_path: str) -> Any:
        """The content of ``file_path`` with its ending; None where there is no such file."""
        for ending, open_file in ((".json", open), (".json.gz", gzip.open)):
            with suppress(FileNotFoundError), open_file(f"{file_path}{ending}", "rb") as file:
                return json.load(file)
        return None
