"""Say what a training process is asked to do, and how it is told to stop."""

import os
import signal
from pathlib import Path
from types import FrameType
from typing import Annotated

from pydantic import Field

from tunemill.child import PREEMPTED
from tunemill.section import Section
from tunemill.training.events import Events
from tunemill.training.settings import TrainSettings


class Job(Section):
    """Everything that one training needs, as the JSON file that the process is given."""

    model: Path
    """Folder of the base model: config.json and safetensors."""
    tokenizer: Path
    """Folder of its tokenizer and chat template."""
    train: Path
    """Table of rows to train on."""
    dealt: Path | None = None
    """Folder of the split, whose ledger knows the groups of the rows; needed where `max_rows` is set."""
    validation: Path | None = None
    """Table of rows to measure on; without it the last step is kept and nothing stops early."""
    out: Path
    """Folder for the results; made when it is not there."""
    checkpoints: Path
    """Folder that outlives a kill and is given again to the next try."""
    events: Path
    """File that events are appended to."""
    identity: Annotated[str, Field(min_length=1)]
    """Name of this very training (its key); a checkpoint of another one is never resumed from."""
    settings: TrainSettings = TrainSettings()
    threads: Annotated[int, Field(ge=1)] | None = None
    """Processor threads; left out, what OMP_NUM_THREADS or the machine says."""


class Preempted(Exception):
    """Stop because the process was told to; the next start goes on from the newest checkpoint."""


class Stop:
    """Hear SIGTERM: between the steps it ends the process at once, within them after the step that is running."""

    def __init__(self, events: Events) -> None:
        self.events = events
        self.asked = False
        self.stepping = False
        """Whether the steps are running, so that there is something to save."""

    def listen(self) -> None:
        """Take over SIGTERM; call it before anything heavy is loaded."""
        signal.signal(signal.SIGTERM, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        if not self.stepping:
            self.events.tell("preempted", "told to stop; nothing was running that had to be saved")
            os._exit(PREEMPTED)
