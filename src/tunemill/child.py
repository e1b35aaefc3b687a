"""Run a heavy step in a process of its own and hear how it goes.

A training that dies of memory, a signal or a library's abort must not take the flow with it, and its memory must come
back. The child writes one JSON object a line to an events file; the parent reads it while it grows.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from tunemill import errors
from tunemill.errors import TunemillError

PREEMPTED = 75
"""Exit status of a child that saved its state and stopped because it was told to (EX_TEMPFAIL of sysexits.h)."""

Event = dict[str, Any]


class ChildDied(Exception):
    """Report a child that ended by a signal or a fault; worth a retry, since it resumes where it was."""


def run(module: str, job: Path, events: Path, on_event: Callable[[Event], None], pause: float = 0.2) -> None:
    """Run `python -m module job` to its end and hand every event to `on_event` as it is written.

    Raises:
        TunemillError: the child stopped with one of our own errors; it is raised again here, by its class.
        ChildDied: anything else, with the exit status and the last lines of its stderr.
    """
    events.touch()
    stderr = events.with_suffix(".stderr")
    quiet = {"GOMP_SPINCOUNT": "0", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1"}
    with stderr.open("wb") as log, events.open("rb") as stream:
        stream.seek(0, os.SEEK_END)
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(job)],
            stdout=log,
            stderr=log,
            env={**quiet, **os.environ},
            preexec_fn=_end_with_parent,
        )
        own: Event = {}
        try:
            for event in _follow(process, stream, pause):
                if event.get("event") == "error":
                    own = event
                else:
                    on_event(event)
        finally:
            _end(process)
    if process.returncode != 0:
        raise _failure(module, process.returncode, own, stderr)


def _follow(process: "subprocess.Popen[bytes]", stream: Any, pause: float) -> Iterator[Event]:
    rest = b""
    while True:
        ended = process.poll() is not None
        *lines, rest = (rest + stream.read()).split(b"\n")
        for line in lines:
            yield orjson.loads(line)
        if ended:
            return
        time.sleep(pause)


def _end_with_parent() -> None:
    """Ask the kernel to end this process when its parent dies, so that no orphan writes beside a retry."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Leave no child behind: ask it to save and stop, then insist."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _failure(module: str, status: int, own: Event, stderr: Path) -> Exception:
    kind = getattr(errors, str(own.get("kind")), None)
    if isinstance(kind, type) and issubclass(kind, TunemillError):
        failure = TunemillError.__new__(kind)
        failure.args = (own["message"],)
        return failure
    tail = "\n".join(stderr.read_text(errors="replace").splitlines()[-20:])
    how = f"by signal {-status}" if status < 0 else f"with status {status}"
    if status == PREEMPTED:
        how = "because it was told to stop; its state is saved"
    return ChildDied(f"{module} ended {how}\n{tail}")
