"""Keeps what is logged while a step runs as the step's ``stderr`` in Dagster, without processes.

Dagster's own turns the process's stdout and stderr into files, and starts ``tail`` and a Python
process for each of them, which copy the files to the terminal: 0.05 s of CPU a run, and the last
lines may be lost. Here both stay as they are. What libraries print without logging it is on the
terminal alone.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from dagster._core.storage.compute_log_manager import CapturedLogContext
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._serdes import ConfigurableClassData

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class LoggedLines(LocalComputeLogManager):
    """Files where Dagster's own has them, so that its web interface shows them."""

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "LoggedLines":
        """Made by Dagster for what ``open_instance`` names."""
        return cls(inst_data=inst_data, **config_value)

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Iterator[CapturedLogContext]:
        """Write what is logged in the block, in any thread, to the step's ``stderr``."""
        out, err, complete = (
            Path(self.get_captured_local_path(log_key, ending))
            for ending in ("out", "err", "complete")
        )
        out.parent.mkdir(parents=True, exist_ok=True)
        out.touch()
        with closing(logging.FileHandler(err, encoding="utf-8")) as handler:
            handler.setFormatter(logging.Formatter(_FORMAT))
            root = logging.getLogger()
            root.addHandler(handler)
            try:
                yield CapturedLogContext(log_key)
            finally:
                root.removeHandler(handler)
        complete.touch()
