"""A machine whose servers keep their state in a real PostgreSQL, which runs as a user without rights."""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.processes import Process, kill_all, running
from tests.flows.test_up import Terminal, wait_for

SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
pytestmark = [
    pytest.mark.flow,
    pytest.mark.skipif(not SERVERS, reason="no PostgreSQL is installed (Debian: apt-get install postgresql)"),
    pytest.mark.skipif(
        importlib.util.find_spec("psycopg") is None, reason="psycopg is absent: pip install -e '.[postgres]'"
    ),
]
SECRET = "canary-7f3a"


def unprivileged() -> str | None:
    """Give the user that PostgreSQL must run as: it refuses root."""
    if os.geteuid():
        return None
    names = {user.pw_name for user in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Start a PostgreSQL of our own on a free port, which asks for a password; give its URL."""
    user, folder = unprivileged(), Path(tempfile.mkdtemp(prefix="tunemill-pg-", dir="/var/tmp"))
    (folder / "password").write_text(SECRET)
    if user:
        shutil.chown(folder, user)
        shutil.chown(folder / "password", user)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data, programs = folder / "data", SERVERS[-1].parent
    made = [programs / "initdb", "-D", data, "-U", "tunemill", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}"]
    subprocess.run(made, user=user, cwd=folder, check=True, capture_output=True)
    words = [programs / "postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", folder]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(words, user=user, cwd=folder, stdout=log, stderr=log)
    try:
        yield f"postgresql://tunemill:{SECRET}@127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    home = tmp_path_factory.mktemp("up")
    yield Terminal(home)
    kill_all(home)
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def machine(terminal: Terminal, server: str) -> Process:
    """Bring a machine up on it; the URL comes by the environment, where no list of processes shows it."""
    process = Process(terminal.home, "up", "-m", "tunemill.cli", "up", "--port-base", "0", TUNEMILL_POSTGRES=server)
    wait_for(lambda: "the machine is up\n" in process.written()[1], 240, process)
    return process


def tables(server: str, database: str) -> set[str]:
    import psycopg

    with psycopg.connect(f"{server}/{database}") as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    return {str(row[0]) for row in rows}


def test_both_servers_keep_their_state_in_databases_of_their_own(
    terminal: Terminal, machine: Process, server: str
) -> None:
    facts = terminal.status()
    assert (facts["up"], facts["database"], facts["mlflow_answers"]) == (True, "postgresql", True)
    assert {"flow_run", "work_pool", "deployment"} <= tables(server, "prefect")
    assert {"experiments", "runs", "model_versions"} <= tables(server, "mlflow")
    assert not list(terminal.home.rglob("*.db"))


def test_a_run_fails_there_as_it_does_elsewhere(terminal: Terminal, machine: Process) -> None:
    ended = terminal.command("submit", "pipeline_configs/minimal.yaml", "--set", "ingest.max_rejected=0", "--watch")
    assert ended.status == 3, ended


def test_the_password_stands_in_no_file_no_list_of_processes_and_no_worker(
    terminal: Terminal, machine: Process
) -> None:
    shown = [word for process in running(terminal.home) for word in process.cmdline()]
    assert not [word for word in shown if SECRET in word]
    workers = [process for process in running(terminal.home) if "worker" in process.cmdline()]
    assert len(workers) == 2
    assert not [worker for worker in workers if SECRET in str(worker.environ())]
    files = [path for path in terminal.home.rglob("*") if path.is_file()]
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_it_goes_down_and_leaves_no_process(terminal: Terminal, machine: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        machine.process.send_signal(signal.SIGINT)
    assert machine.process.wait(60) == 0
    assert running(terminal.home) == []


def test_a_wrong_password_is_told_without_a_traceback(terminal: Terminal, server: str) -> None:
    ended = terminal.command("up", "--port-base", "0", "--postgres", server.replace(SECRET, "wrong-secret"))
    assert ended.status == 1
    assert "does not take us (InvalidPasswordError: " in ended.err
    assert "Traceback" not in ended.err
    assert "wrong-secret" not in ended.err
