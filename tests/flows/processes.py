"""Run Python in processes of their own, under a state folder of their own, and leave none of them behind."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from tunemill.home import PROJECT


@dataclass
class Ended:
    """What a process left: its exit status and what it wrote."""

    status: int
    out: str
    err: str


class Process:
    """A Python process in a group of its own, so that the temporary Prefect server of a killed flow ends as well."""

    def __init__(self, home: Path, name: str, *words: str, **environment: str) -> None:
        self.files = home / f"{name}.out", home / f"{name}.err"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_TRACKING_"))}
        own = {
            "PYTHONPATH": f"{PROJECT / 'src'}{os.pathsep}{PROJECT}",
            "TUNEMILL_HOME": str(home),
            "PREFECT_HOME": str(home / "prefect"),
        }
        with self.files[0].open("w") as out, self.files[1].open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=PROJECT,
                env={**kept, **own, **environment},
                start_new_session=True,
            )

    def end(self, timeout: float = 120) -> Ended:
        """Wait until it ends by itself; kill what is left of its group."""
        try:
            status = self.process.wait(timeout=timeout)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        return Ended(status, *self.written())

    def written(self) -> tuple[str, str]:
        """Give what it wrote until now to stdout and stderr."""
        return self.files[0].read_text(), self.files[1].read_text()


def running(home: Path) -> list[psutil.Process]:
    """Find every process that was started under this state folder, in whatever group and with whatever parent."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("TUNEMILL_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def kill_all(home: Path, seconds: float = 30) -> None:
    """Kill every process that was started under this state folder, and those that they start meanwhile."""
    deadline = time.monotonic() + seconds
    while left := running(home):
        assert time.monotonic() < deadline, left
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=1)
