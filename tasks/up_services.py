"""Say what a machine runs: the two servers, a worker for the CPU pool and one for each GPU, and when each is ready.

The servers take over sockets on which `up` listens, so a server that died comes back at its address, and whoever asks
meanwhile waits for it.
"""

import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.machine import MARK, Machine
from tasks.prefect_api import NoAnswer, ask
from tunemill.errors import ConfigError
from tunemill.home import Home

CPU_POOL, GPU_POOL = "cpu-pool", "gpu-pool"
POLL = 2
"""Seconds between two looks of a worker for runs to start; Prefect's own 10 would be waited for at every dispatch."""
WORKER_HEARTBEAT = 10
"""Seconds between two signs of life of a worker; after three of them Prefect calls it offline."""


@dataclass(frozen=True)
class Command:
    """How one process of the machine is started."""

    words: list[str]
    environment: dict[str, str]
    without: tuple[str, ...] = ()
    """Variables that it must not see."""
    sockets: tuple[int, ...] = ()
    pool: str = ""
    """The pool that a worker serves; empty for a server."""

    def whole_environment(self, home: Home) -> dict[str, str]:
        """Give all variables of the process: this one's, those that keep state under the home, and its own.

        The URL with PostgreSQL's password goes to the servers alone, under their own names: no run needs it.
        """
        hidden = {*self.without, "TUNEMILL_POSTGRES"}
        kept = {name: value for name, value in os.environ.items() if name not in hidden}
        return {**kept, **home.environment(), **self.environment, MARK: str(home.root)}


@dataclass
class Sockets:
    """The two sockets that the servers answer on; bound to loopback, and kept while a server is started again."""

    prefect: socket.socket
    mlflow: socket.socket

    @classmethod
    def listening(cls, base: int) -> "Sockets":
        """Listen on two ports in a row, or on any two free ones where the base is 0.

        Raises:
            ConfigError: something else listens on one of them.
        """
        return cls(_listen(base), _listen(base + 1 if base else 0))

    def close(self) -> None:
        """Stop listening."""
        self.prefect.close()
        self.mlflow.close()


def address(listening: socket.socket) -> str:
    """Give the address that a browser asks."""
    return f"http://127.0.0.1:{listening.getsockname()[1]}"


def _listen(port: int) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"port {port} on 127.0.0.1 is taken ({error.strerror}); stop what listens there, or choose two other "
            "ports in a row: tunemill up --port-base 14200"
        ) from error
    listening.listen(128)
    return listening


def graphics_cards() -> list[str]:
    """Name the GPUs that torch can use, as CUDA_VISIBLE_DEVICES takes them; looked up in a process that ends again."""
    code = "import torch; print(torch.cuda.device_count())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout
    count = int(told) if told.strip().isdigit() else 0
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(number) for number in range(count)]


def servers(home: Home, sockets: Sockets, databases: Mapping[str, str]) -> dict[str, Command]:
    """Say how the two servers are started.

    Args:
        databases: `prefect` and `mlflow`: the URL of each; without them, SQLite files under the home.
    """
    prefect = address(sockets.prefect)
    port = prefect.rpartition(":")[2]
    return {
        "prefect": Command(
            _uvicorn("--factory", "prefect.server.api.server:create_app", sockets.prefect),
            {
                "PREFECT_API_URL": f"{prefect}/api",
                "PREFECT_SERVER_API_HOST": "127.0.0.1",
                "PREFECT_SERVER_API_PORT": port,
                "PREFECT_SERVER_UI_ENABLED": "true",
                "PREFECT_SERVER_UI_API_URL": f"{prefect}/api",
                # Any page that is open in the operator's browser may ask a server that answers every origin.
                "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"{prefect},http://localhost:{port}",
                "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
                # SQLite has one writer at a time; others wait, by default 10 s.
                "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
                **({"PREFECT_SERVER_DATABASE_CONNECTION_URL": databases["prefect"]} if databases else {}),
            },
            sockets=(sockets.prefect.fileno(),),
        ),
        "mlflow": Command(
            _uvicorn("mlflow.server.fastapi_app:app", sockets.mlflow),
            {
                # What `mlflow server` hands to the uvicorn that it starts; it has no way to take over a socket.
                "_MLFLOW_SERVER_FILE_STORE": databases.get("mlflow", f"sqlite:///{home.root / 'mlflow.db'}"),
                # A client writes files itself, as a run without a server does, so that both can read them.
                "_MLFLOW_SERVER_ARTIFACT_ROOT": home.mlflow_artifacts.as_uri(),
                "_MLFLOW_SGI_NAME": "uvicorn",
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            },
            without=("MLFLOW_TRACKING_URI",),
            sockets=(sockets.mlflow.fileno(),),
        ),
    }


def _uvicorn(*words: Any) -> list[str]:
    *app, listening = words
    return ["uvicorn", *app, "--fd", str(listening.fileno()), "--log-level", "warning", "--no-access-log"]


def workers(machine: Machine, cards: list[str]) -> dict[str, Command]:
    """Say how the workers are started: one for the CPU pool, and one for each GPU, which sees that GPU alone."""
    named = {"cpu": _worker(machine, "cpu", CPU_POOL, {})}
    for number, card in enumerate(cards):
        named[f"gpu-{number}"] = _worker(machine, f"gpu-{number}", GPU_POOL, {"CUDA_VISIBLE_DEVICES": card}, "1")
    return named if cards else named | {"gpu-0": _worker(machine, "gpu-0", GPU_POOL, {}, "1")}


def _worker(machine: Machine, name: str, pool: str, environment: dict[str, str], limit: str = "") -> Command:
    words = ["prefect", "worker", "start", "--pool", pool, "--name", name, "--type", "process"]
    environment = {
        **machine.environment(),
        "PREFECT_WORKER_QUERY_SECONDS": str(POLL),
        "PREFECT_WORKER_HEARTBEAT_SECONDS": str(WORKER_HEARTBEAT),
        "PREFECT_LOGGING_LEVEL": "INFO",
        **environment,
    }
    return Command(words + (["--limit", limit] if limit else []), environment, pool=pool)


def ready(name: str, command: Command, machine: Machine) -> bool:
    """Say whether a service that was started does its work now."""
    if name == "prefect":
        return answers(f"{machine.api}/health")
    if name == "mlflow":
        # Asked for data, it makes its database first, which takes 13 s.
        return answers(f"{machine.mlflow}/api/2.0/mlflow/experiments/search?max_results=1", 60)
    try:
        listed = ask(machine.api, f"work_pools/{command.pool}/workers/filter", {})
    except NoAnswer:
        return False
    since = machine.services[name].since
    return any(each["name"] == name and (each["last_heartbeat_time"] or "") >= since for each in listed)


def answers(url: str, seconds: float = 5) -> bool:
    """Say whether an address answers without an error."""
    try:
        urllib.request.urlopen(url, timeout=seconds).close()
    except OSError:
        return False
    return True
