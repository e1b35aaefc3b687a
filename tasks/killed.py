"""Close what a killed run left open: its record, and its MLflow run, which would be RUNNING for ever.

A run holds a lock for as long as it lives, and the kernel frees the lock when its holder dies, however it dies.
"""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from tunemill import tracking
from tunemill.files import replace
from tunemill.home import Home

NOTES = {
    "KILLED": "The process was killed. What its stages had sealed is held; the next run goes on from there.",
    "FAILED": "Not all of this run was told: MLflow did not answer. Where it has a verdict, a later run tells it.",
}


@contextlib.contextmanager
def living(record: Path) -> Iterator[None]:
    """Hold the lock that says that the run of this record lives."""
    lock = _lock(record)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def records(home: Home) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Read the run records that can be read, newest first."""
    for path in sorted(home.runs.glob("[!.]*.json"), reverse=True):
        with contextlib.suppress(OSError, ValueError):
            yield path, orjson.loads(path.read_bytes())


def close_dead_runs(home: Home) -> None:
    """Record as killed what a dead process left as running, and tell MLflow how each run that it holds open ended.

    MLflow is imported only where it may hold such a run. What it cannot be told now stays as it is for the next run.
    """
    for path, seen in records(home):
        if _open(seen):
            with _dead(path) as dead:
                if dead:
                    _close(home, path)


def _open(record: dict[str, Any]) -> bool:
    return record["state"] == "running" or record.get("mlflow_status") == "RUNNING"


def _close(home: Home, path: Path) -> None:
    record = orjson.loads(path.read_bytes())
    if not _open(record):
        return
    if record["state"] == "running":
        record |= {"state": "killed", "error": "the process was killed"}
        replace(path, orjson.dumps(record, option=orjson.OPT_INDENT_2))
    if record["mlflow_status"] == "RUNNING":
        status = "KILLED" if record["state"] == "killed" else "FAILED"
        tracking.close(home, record["config"]["name"], record["id"], status, NOTES[status])
        record["mlflow_status"] = status
        replace(path, orjson.dumps(record, option=orjson.OPT_INDENT_2))


@contextlib.contextmanager
def _dead(record: Path) -> Iterator[bool]:
    """Say whether nobody holds the lock of this record; hold it meanwhile, so that one process closes a run."""
    lock = _lock(record)
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            lock.unlink(missing_ok=True)


def _lock(record: Path) -> Path:
    return record.with_name(f".{record.stem}.lives")
