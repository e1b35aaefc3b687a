"""Know the machine that `tunemill up` runs for a home: whether it lives, what it runs, and what a killed one left.

`up/lock` is held for as long as it lives, and the kernel frees it when its holder dies, however it dies. `up/up.json`
says what it runs; the file of a dead machine is stale, and the next `up` or `down` removes it.
"""

import contextlib
import datetime
import fcntl
import os
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import BaseModel, Field

from tunemill.files import replace
from tunemill.home import Home

MARK = "TUNEMILL_UP"
"""In the environment of every process that a machine starts, and of those that they start: the home's folder."""
GRACE = 40
"""Seconds that a process has to save its state and stop; a training takes up to 30."""


class Service(BaseModel):
    """One process that the machine keeps running."""

    name: str
    log: str
    state: Literal["starting", "running", "waiting", "given up", "stopped"] = "starting"
    pid: int = 0
    since: str = ""
    deaths: int = 0
    """How often it ended by itself since the machine came up."""


class Machine(BaseModel):
    """What `up.json` says."""

    pid: int
    created: float
    """When that process was started, in seconds since 1970, so that another process with its number is not taken for
    it."""
    since: str
    prefect: str
    """Address of Prefect's pages; its API is below it."""
    mlflow: str
    database: Literal["sqlite", "postgresql"]
    gpus: int = 0
    up: bool = False
    """Whether everything was healthy once."""
    services: dict[str, Service] = Field(default_factory=dict)

    @property
    def api(self) -> str:
        """Address of Prefect's API."""
        return f"{self.prefect}/api"

    def environment(self) -> dict[str, str]:
        """Give the variables by which a process uses this machine's servers.

        A run that beats more seldom than the automation expects would be taken for dead.
        """
        return {
            "PREFECT_API_URL": self.api,
            "MLFLOW_TRACKING_URI": self.mlflow,
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT),
        }

    def write(self, home: Home) -> None:
        """Write `up.json`, old or new and never half."""
        replace(record(home), orjson.dumps(self.model_dump(), option=orjson.OPT_INDENT_2))


HEARTBEAT = 30
"""Seconds between two signs of life of a flow run: the least that Prefect takes."""


def folder(home: Home) -> Path:
    """Folder of the machine's record and logs."""
    return home.root / "up"


def record(home: Home) -> Path:
    """File that says what the machine runs."""
    return folder(home) / "up.json"


def now() -> str:
    """Give the time as it stands in records."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@contextlib.contextmanager
def held(home: Home, seconds: float = 1) -> Iterator[bool]:
    """Hold the machine's lock, waiting so long for it; say whether it is held, which says that no machine lives."""
    folder(home).mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + seconds
    with (folder(home) / "lock").open("a") as file:
        while not (got := _try(file.fileno(), fcntl.LOCK_EX)) and time.monotonic() < deadline:
            time.sleep(0.1)
        yield got


def alive(home: Home) -> bool:
    """Say whether a machine lives for this home."""
    try:
        with (folder(home) / "lock").open("rb") as file:
            return not _try(file.fileno(), fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def _try(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read(home: Home) -> Machine | None:
    """Read `up.json`; None where none can be read."""
    try:
        return Machine.model_validate_json(record(home).read_bytes())
    except (OSError, ValueError):
        return None


def living(home: Home) -> Machine | None:
    """Give the machine that lives for this home; None where none does, whatever a stale file says."""
    return read(home) if alive(home) else None


def join(home: Home) -> None:
    """Let this process use the servers of the living machine where the environment names none; call it before Prefect
    is imported."""
    machine = living(home)
    if machine and machine.up and "PREFECT_API_URL" not in os.environ and "MLFLOW_TRACKING_URI" not in os.environ:
        os.environ.update(machine.environment())


def left_over(home: Home) -> "list[Any]":
    """Find the living processes that carry this home's mark; only the holder of the lock may take them for orphans."""
    import psutil

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == str(home.root) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return [process for process in found if process.pid != os.getpid()]


def clean(home: Home) -> list[str]:
    """End what a killed machine left and remove its record; the caller holds the lock. Say what was ended."""
    told = [f"{_named(process)} (pid {process.pid})" for process in left_over(home)]
    end_all(home)
    record(home).unlink(missing_ok=True)
    return told


def end_all(home: Home, spared: Collection[int] = ()) -> None:
    """End every process with this home's mark but those spared: first the topmost ones, which end their own children
    in order, then what is left."""
    marked = {process.pid: process for process in left_over(home) if process.pid not in spared}
    end([process for process in marked.values() if _parent(process) not in marked])
    end([process for process in left_over(home) if process.pid not in spared], 5)


def _parent(process: Any) -> int:
    import psutil

    try:
        return int(process.ppid())
    except psutil.Error:
        return 0


def end(processes: "list[Any]", grace: float = GRACE) -> None:
    """Ask processes to stop, wait, then kill those that did not; afterwards none of them does anything."""
    import psutil

    for how, seconds in (("terminate", grace), ("kill", 5.0)):
        for process in processes:
            with contextlib.suppress(psutil.Error):
                getattr(process, how)()
        deadline = time.monotonic() + seconds
        while (processes := [each for each in processes if _lives(each)]) and time.monotonic() < deadline:
            time.sleep(0.05)


def _lives(process: Any) -> bool:
    """Say whether a process lives; one that ended stays a zombie until its parent looks, which may be suspended."""
    import psutil

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _named(process: Any) -> str:
    import psutil

    try:
        words = process.cmdline()
    except psutil.Error:
        return "a process"
    return " ".join(words[1:4] if words[1:2] == ["-m"] else words[:2])
