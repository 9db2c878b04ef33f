"""What ``dg scaffold defs`` writes for the components."""

from pathlib import Path
from typing import Any

import dagster as dg

_START = """\
model: lucataco/flux-schnell-lora
description: What these images are for
prompts:
  castle: a castle in the snow
  moon: {prompt: "the {phase} moon over a harbour", matrix: {phase: [full, new]}}
budget: {usd_per_run: 1}
# owners: ["team:studio"]
# defaults: {hf_lora: alvdansen/frosting_lane_flux, aspect_ratio: 16:9}
# partitions: {by: shard, count: 8}
# schedule: {cron: "0 6 * * *", timezone: Europe/Berlin}
# automation: on_change
"""
"""A prompt set to start from: it loads as it is, for less than a cent."""

_BOOKS = """\
image_producer: environment  # from FLUX_* variables; project: its definitions have the resource
"""


class PromptSetScaffolder(dg.Scaffolder):
    """Writes a prompt set that loads: a component's ``defs.yaml``, or here a file in ``configs/``.

    Raises:
        SystemExit: With 0, where the file was written to ``configs/``: Dagster would go on and
            look for a ``defs.yaml``. With 1, where that file is there already.
    """

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        """Write the file; a component in Python is Dagster's own form."""
        if _is_here(request):
            _start_config(request)
        if request.scaffold_format != "yaml":
            dg.scaffold_component(request)
            return
        _write(request, _START)


class ImageBooksScaffolder(dg.Scaffolder):
    """Writes a ``defs.yaml`` that loads.

    Raises:
        SystemExit: Here: this project has these books without a component.
    """

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        """Write the file; a component in Python is Dagster's own form."""
        if _is_here(request):
            _take_back(request.target_path)
            raise SystemExit("Here the books are there already: this is for other projects.")
        if request.scaffold_format != "yaml":
            dg.scaffold_component(request)
            return
        _write(request, _BOOKS)


def _write(request: dg.ScaffoldRequest[Any], attributes: str) -> None:
    body = "".join(f"  {line}\n" for line in attributes.splitlines())
    text = f"type: {request.type_name}\n\nattributes:\n{body}"
    if request.append:
        with request.target_path.open("a", encoding="utf-8") as file:
            file.write(f"---\n{text}")
    else:
        (request.target_path / "defs.yaml").write_text(text, encoding="utf-8")


def _is_here(request: dg.ScaffoldRequest[Any]) -> bool:
    root = request.project_root
    return root is not None and root.resolve() == Path(__file__).parents[2]


def _start_config(request: dg.ScaffoldRequest[Any]) -> None:
    """This project loads files from ``configs/`` and no folders below ``defs/``."""
    folder = request.target_path
    path = Path(request.project_root or ".") / "configs" / f"{folder.name}.yaml"
    _take_back(folder)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(_START)
    except FileExistsError:
        raise SystemExit(f"{path} is there already") from None
    print(f"Here a prompt set is a file: wrote {path}. It has the same keys.")  # noqa: T201
    raise SystemExit(0)


def _take_back(folder: Path) -> None:
    """Remove the folder that Dagster made for the component."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
