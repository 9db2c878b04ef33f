"""Says in one line what a command that was interrupted leaves running at the provider."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class LeftRunning(logging.Filter):
    """Takes the producer's warnings of interrupted runs, to say them all in one line."""

    count = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Count the predictions of such a warning and drop it; let all others through."""
        from flux_pipeline.produce.producer import LEFT_RUNNING

        if record.msg != LEFT_RUNNING or not isinstance(record.args, tuple):
            return True
        self.count += int(str(record.args[0]))
        return False

    def sentence(self, again: str = "the next run") -> str:
        """What is left, and what goes on with it."""
        if not self.count:
            return f"interrupted: nothing runs on; {again} goes on from here"
        if self.count == 1:
            return f"1 prediction runs on; {again} resumes it"
        return f"{self.count} predictions run on; {again} resumes them"


@contextmanager
def counting_left_running() -> Iterator[LeftRunning]:
    """Count the predictions that interrupted runs leave at the provider, in this block."""
    logger, left = logging.getLogger("flux_pipeline.produce.producer"), LeftRunning()
    logger.addFilter(left)
    try:
        yield left
    finally:
        logger.removeFilter(left)
