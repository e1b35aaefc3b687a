"""Break on request, so that tests can prove what a crash at a named point does to real code.

`TUNEMILL_FAULT=split.sealed:kill` kills the process at that point; `split.begin:fail:2` raises twice, then lets pass.
How often a point has failed is counted in the file `TUNEMILL_FAULT_COUNT`, since a retry may be another process.
Without the variable a point costs one look at the environment.
"""

import os
import signal
from pathlib import Path


class InjectedFault(OSError):
    """Stand in for a fault of the world; retried like any other."""


def point(name: str) -> None:
    """Do at `name` what `TUNEMILL_FAULT` asks for; nothing when it names another point."""
    wanted, _, action = os.environ.get("TUNEMILL_FAULT", "").partition(":")
    if wanted != name:
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    verb, _, times = action.partition(":")
    if verb != "fail":
        raise ValueError(f"TUNEMILL_FAULT={wanted}:{action}: the action is `kill` or `fail:N`")
    counter = Path(os.environ["TUNEMILL_FAULT_COUNT"])
    failed = len(counter.read_bytes()) if counter.exists() else 0
    if failed < int(times or 1):
        with counter.open("ab") as file:
            file.write(b".")
        raise InjectedFault(f"injected fault {failed + 1} of {times} at {name}")
