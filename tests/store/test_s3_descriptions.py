"""What botocore knows of S3: the same as from its own loader, from fewer folders."""

import json
import os
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Any

import pytest
from botocore import exceptions as botocore_errors

from flux_pipeline.store.s3_descriptions import (
    DescriptionFiles,
    ServiceDescriptions,
    service_descriptions,
)

ALL_SERVICES = 100
"""Fewer than botocore knows, and more than there are folders to look into for one of them."""


def fresh() -> ServiceDescriptions:
    return ServiceDescriptions(file_loader=DescriptionFiles())


def botocores_own() -> Any:
    """The loader of a fresh copy of its module: ``tests.servers.s3`` changes that of clients."""
    spec = find_spec("botocore.loaders")
    assert spec is not None
    assert spec.loader is not None
    module: Any = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Loader(file_loader=module.JSONFileLoader())


@pytest.mark.parametrize("kind", ["service-2", "endpoint-rule-set-1", "paginators-1"])
def test_they_are_what_botocores_own_loader_reads(kind: str) -> None:
    botocores = botocores_own()
    assert fresh().load_service_model("s3", kind) == botocores.load_service_model("s3", kind)
    assert fresh().load_data("endpoints") == botocores.load_data("endpoints")


def test_the_folders_of_other_services_are_not_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_into: list[Any] = []
    listdir = os.listdir

    def counting(path: Any = ".") -> Any:
        looked_into.append(path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", counting)
    assert len(fresh().list_available_services("service-2")) > ALL_SERVICES
    for kind in ("service-2", "endpoint-rule-set-1", "paginators-1"):
        fresh().load_service_model("s3", kind)
    assert 0 < len(looked_into) < ALL_SERVICES


def test_a_service_that_is_not_known_is_no_service() -> None:
    with pytest.raises(botocore_errors.UnknownServiceError):
        fresh().load_service_model("no-such", "service-2")
    with pytest.raises(botocore_errors.DataNotFoundError):
        fresh().load_service_model("s3", "no-such-kind")


def test_a_folder_of_aws_data_path_comes_before_botocores_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINE", str(tmp_path))
    (tmp_path / "partitions.json").write_text(json.dumps({"partitions": []}))
    found = service_descriptions(os.pathsep.join(["$MINE", "/nowhere"]))
    assert found.load_data("partitions") == {"partitions": []}
    assert found.load_service_model("s3", "service-2")["metadata"]["endpointPrefix"] == "s3"
