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
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from tunemill import errors
from tunemill.errors import TunemillError

PREEMPTED = 75
"""Exit status of a child that saved its state and stopped because it was told to (EX_TEMPFAIL of sysexits.h)."""

Event = dict[str, Any]
_LIBC = ctypes.CDLL(None)
"""Loaded before any fork: a child of a process with threads must not load libraries."""


class ChildDied(Exception):
    """Report a child that ended by a signal or a fault; worth a retry, since it resumes where it was."""


def run(module: str, job: Path, events: Path, on_event: Callable[[Event], None], pause: float = 0.2) -> None:
    """Run `python -m module job` to its end and hand every event to `on_event` as it is written.

    Raises:
        TunemillError: the child stopped with one of our own errors; it is raised again here, by its class.
        ChildDied: anything else, with the exit status and the last lines of its stderr, or the line that is no event.
    """
    before = _whole_lines(events)
    stderr = events.with_suffix(".stderr")
    quiet = {"GOMP_SPINCOUNT": "0", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1"}
    with stderr.open("wb") as log, events.open("rb") as stream:
        stream.seek(0, os.SEEK_END)
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(job)],
            stdout=log,
            stderr=log,
            env={**quiet, **os.environ},
            preexec_fn=end_with_parent,
        )
        own: Event = {}
        try:
            for number, line in enumerate(_follow(process, stream, pause), start=before + 1):
                if not line:
                    continue
                event = _event(line, f"{events}:{number}", module)
                if event.get("event") == "error":
                    own = event
                else:
                    on_event(event)
        finally:
            _end(process)
    if process.returncode != 0:
        raise _failure(module, process.returncode, own, stderr)


def serve(events: Path, work: Callable[[Callable[[Event], None]], object]) -> int:
    """Do the work of a child: what it emits becomes lines of the events file; return the exit status.

    Our own errors become an `error` event, by which the parent raises them again; others keep their traceback.
    """
    with events.open("ab", buffering=0) as lines:

        def emit(event: Event) -> None:
            lines.write(orjson.dumps(event) + b"\n")

        try:
            work(emit)
        except Exception as error:
            emit({"event": "error", "kind": type(error).__name__, "message": str(error)})
            if isinstance(error, TunemillError):
                return error.exit_code
            traceback.print_exc()
            return 1
    return 0


def _whole_lines(events: Path) -> int:
    """Cut off the line that a killed child left half written, so that the next one begins its own; count the others."""
    events.touch()
    written = events.read_bytes()
    os.truncate(events, written.rfind(b"\n") + 1)
    return written.count(b"\n")


def _follow(process: "subprocess.Popen[bytes]", stream: Any, pause: float) -> Iterator[bytes]:
    """Yield each line once all of it is written; what a dead child did not finish is left out."""
    rest = b""
    while True:
        ended = process.poll() is not None
        *lines, rest = (rest + stream.read()).split(b"\n")
        yield from lines
        if ended:
            return
        time.sleep(pause)


def _event(line: bytes, place: str, module: str) -> Event:
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        event = None
    if not isinstance(event, dict):
        raise ChildDied(f"{module} wrote a line that is no event and was ended for it; {place} is {line[:200]!r}")
    return event


def end_with_parent() -> None:
    """Ask the kernel to end this process when its parent dies, so that no orphan writes beside a retry."""
    _LIBC.prctl(1, signal.SIGKILL)


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
