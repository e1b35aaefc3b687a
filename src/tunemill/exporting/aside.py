"""Run a job of this package in a process of its own; nothing is left of it but what it was asked to write.

llama.cpp and the converter print as they like and end the whole process when they fail: here they print into a file
that goes away, and a failure becomes an error of ours or a `ChildDied` with its last lines.
"""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from tunemill import child


def run(
    module: str, job: Mapping[str, Any], beside: Path, on_event: Callable[[child.Event], None] = lambda _: None
) -> None:
    """Run `python -m module` on `job`, with `events` added to it; `beside` is the folder that may hold scratch files.

    Raises:
        TunemillError: the child stopped with one of our own errors.
        ChildDied: it ended by a signal or a fault.
    """
    with tempfile.TemporaryDirectory(dir=beside, prefix=".aside-") as scratch:
        path, events = Path(scratch) / "job.json", Path(scratch) / "events.jsonl"
        path.write_bytes(orjson.dumps({**job, "events": str(events)}))
        child.run(module, path, events, on_event, pause=0.05)
