"""Prefect log: print what a run does in its flow run's log, where a worker's run has no screen."""

import contextlib
import logging
import time
from collections.abc import Iterator

from tasks.run import SILENT, Listener, StageRecord, listener, listening

PAUSE = 60
"""Seconds between two lines about how far a long stage is."""


class PrefectLog(Listener):
    """Write the lines that the screen would show to the log of the flow run that this is."""

    def __init__(self, logger: "logging.Logger | logging.LoggerAdapter[logging.Logger]") -> None:
        self.logger = logger
        self.quiet_until = 0.0

    def ended(self, record: StageRecord) -> None:
        """Log what the stage counted, and whether it was held."""
        counts = ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in record.counts.items())
        how = "held" if record.cached else f"made in {record.seconds:.1f} s"
        self.logger.info("%s %s %s  %s", record.name, record.key[:12], how, counts)

    def progress(self, stage: str, done: float, total: float, text: str) -> None:
        """Log how far a long stage is, once a minute."""
        if time.monotonic() >= self.quiet_until:
            self.quiet_until = time.monotonic() + PAUSE
            self.logger.info("%s: %.0f of %.0f, %s", stage, done, total, text)

    def warn(self, message: str) -> None:
        """Log the warning."""
        self.logger.warning("%s", message)


@contextlib.contextmanager
def logged() -> Iterator[None]:
    """Let the flow run's log hear the runs inside this block, where nobody listens to them yet."""
    if listener() is not SILENT:
        yield
        return
    from prefect.logging import get_run_logger

    with listening(PrefectLog(get_run_logger())):
        yield
