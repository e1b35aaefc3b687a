"""Down: stop the machine of this home from another terminal, or clean up after one that was killed."""

import contextlib
import time
from typing import Any

import psutil

from tasks import machine as machines
from tunemill.errors import TunemillError
from tunemill.home import Home

SECONDS = 180
"""How long an orderly stop may take: a training saves its state, then the servers end."""


def down(home: Home) -> dict[str, Any]:
    """Stop the machine and wait until it is gone; say what ran, and what a killed one had left.

    Raises:
        TunemillError: it neither stops nor can be ended.
    """
    machine = machines.living(home)
    if machine:
        _tell(machine, "terminate")
    with machines.held(home, SECONDS) as gone:
        if gone:
            return {"stopped": _ran(machine), "left_over": machines.clean(home)}
    if machine:
        _tell(machine, "kill")
    with machines.held(home, 10) as gone:
        if gone:
            return {"stopped": _ran(machine), "left_over": machines.clean(home)}
    raise TunemillError(f"the machine of {home.root} does not stop; {machines.folder(home)} names its processes")


def _ran(machine: machines.Machine | None) -> list[str]:
    return list(machine.services) if machine else []


def _tell(machine: machines.Machine, how: str) -> None:
    """Signal the process that runs the machine, unless its number belongs to another one now."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(machine.pid)
        if abs(process.create_time() - machine.created) < 1:
            getattr(process, how)()
            time.sleep(0.1)


def shown(done: dict[str, Any]) -> str:
    """Say what was stopped."""
    lines = [f"stopped: {', '.join(done['stopped'])}"] if done["stopped"] else []
    lines += [f"ended what a killed machine left: {each}" for each in done["left_over"]]
    return "\n".join(lines) or "nothing was up"
