"""The machine's record and its lock, what a killed one left, and what a person is told, without any server."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tasks import down, machine, postgres, status, submit, up, up_services
from tasks.machine import MARK, Machine
from tasks.up_services import Command
from tunemill.errors import ConfigError, MissingExtra
from tunemill.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    """Start a process that does nothing."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def written(home: Home, pid: int = 1, created: float = 0.0) -> Machine:
    """Write the record of a machine that came up."""
    machine.folder(home).mkdir()
    made = Machine(
        pid=pid,
        created=created,
        since="2026-11-24T02:00:00+00:00",
        prefect="http://127.0.0.1:4200",
        mlflow="http://127.0.0.1:4201",
        database="sqlite",
        up=True,
    )
    made.write(home)
    return made


def test_a_record_without_its_lock_is_stale(home: Home) -> None:
    written(home, os.getpid(), psutil.Process().create_time())
    assert machine.living(home) is None
    assert status.status(home) == {"up": False, "state": "killed", "since": "2026-11-24T02:00:00+00:00"}


def test_a_machine_lives_as_long_as_its_lock_is_held(home: Home) -> None:
    made = written(home)
    with machine.held(home) as own:
        assert own
        assert machine.living(home) == made
        with machine.held(home, 0) as second:
            assert not second
    assert machine.living(home) is None


def test_a_machine_that_was_killed_is_told_from_one_that_never_was(home: Home) -> None:
    assert status.shown(status.status(home)) == "nothing is up; start it: tunemill up"
    written(home)
    assert status.shown(status.status(home)).startswith(
        "the machine is down: it came up at 2026-11-24T02:00:00+00:00 and was killed\n"
    )


def test_down_cleans_up_after_a_killed_machine_and_the_second_time_finds_nothing(home: Home) -> None:
    written(home)
    marked = subprocess.Popen(
        [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "0"],
        env={**os.environ, MARK: str(home.root)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(0.3)
    done = down.down(home)
    assert done == {"stopped": [], "left_over": [f"-m http.server --bind (pid {marked.pid})"]}
    assert marked.wait(5) == -15
    assert not machine.record(home).exists()
    assert down.shown(down.down(home)) == "nothing was up"


def test_a_process_that_got_the_number_of_a_dead_machine_is_let_be(
    home: Home, sleeper: "subprocess.Popen[bytes]"
) -> None:
    made = written(home, sleeper.pid, psutil.Process(sleeper.pid).create_time() - 3600)
    down._tell(made, "kill")
    assert sleeper.poll() is None


def test_a_run_joins_the_machine_that_is_up(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"PATH": "/bin"})
    written(home)
    machine.join(home)
    assert os.environ == {"PATH": "/bin"}
    with machine.held(home):
        machine.join(home)
    assert os.environ == {
        "PATH": "/bin",
        "PREFECT_API_URL": "http://127.0.0.1:4200/api",
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:4201",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    }


def test_a_run_does_not_join_where_the_environment_names_a_server(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    named = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:5000"}
    monkeypatch.setattr(os, "environ", dict(named))
    written(home)
    with machine.held(home):
        machine.join(home)
    assert os.environ == named


def test_the_second_up_says_where_the_first_one_is(home: Home) -> None:
    written(home, 4711)
    said: list[str] = []
    with machine.held(home):
        up.up(home, 0, {}, said.append)
    assert said == [
        "the machine is up already, since 2026-11-24T02:00:00+00:00 (pid 4711)\n"
        "  Prefect  http://127.0.0.1:4200\n"
        "  MLflow   http://127.0.0.1:4201\n"
        "tunemill status says what runs; tunemill down stops it"
    ]


def test_a_taken_port_is_named_with_the_way_out(home: Home) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port {port} on 127.0.0.1 is taken .*tunemill up --port-base 14200"):
            up.up(home, port, {}, lambda text: None)


def test_without_a_gpu_it_is_said_that_training_goes_on_cpu(home: Home) -> None:
    made = written(home)
    assert "gpu-pool  1 at a time; no GPU was found: TRAINING GOES ON CPU" in up.welcome(made, home)
    made.gpus = 2
    assert "gpu-pool  2 at a time, one on each GPU" in up.welcome(made, home)


def test_each_gpu_has_a_worker_that_sees_it_alone(home: Home) -> None:
    started = up_services.workers(written(home), ["3", "5"])
    assert list(started) == ["cpu", "gpu-0", "gpu-1"]
    cards = [started[name].environment.get("CUDA_VISIBLE_DEVICES") for name in started]
    assert cards == [None, "3", "5"]
    assert [started[name].words[-2:] for name in ("gpu-0", "gpu-1")] == [["--limit", "1"]] * 2


def test_a_service_that_keeps_dying_is_given_up_and_told_with_the_end_of_its_log(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up, "STARTS", 1)
    said: list[str] = []
    supervisor = up.Supervisor(home, written(home), said.append)
    supervisor.start("cpu", Command(["tunemill.nothing"], {}, pool="cpu-pool"))
    deadline = time.monotonic() + 20
    while supervisor.machine.services["cpu"].state != "given up":
        assert time.monotonic() < deadline
        supervisor._look("cpu")
        time.sleep(0.02)
    first, second = said
    assert "CPU DIED with status 1; it is started again (1 of 1 times in 10 minutes); the end of " in first
    assert first.endswith("No module named tunemill.nothing")
    assert "it died 2 times in 10 minutes and is NOT started again; the rest goes on" in second
    stored = machine.read(home)
    assert stored and stored.services["cpu"].deaths == 2


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        ("DataError: ingest: 4 of 102 records rejected", 3),
        ("Flow run encountered an exception: ConfigError: c.yaml:2  split: shares add up to 1.1", 2),
        ("MissingExtra: cyllama is not installed", 2),
        ("StoreError: the bytes differ", 1),
        ("KeyError: 'rows'", 1),
        ("Silent for 75 s", 1),
    ],
)
def test_a_followed_run_ends_with_the_status_that_its_error_has(error: str, exit_code: int) -> None:
    assert submit.exit_status(error) == exit_code


def test_without_a_machine_a_run_cannot_be_submitted(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(ConfigError, match="no machine is up for this home; start one in another terminal: tunemill up"):
        submit.submit(home, home.root / "c.yaml", [])


def test_what_is_no_address_of_postgresql_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError, match="--postgres takes postgresql://") as error:
        postgres.databases("mysql://me:canary@db/x")
    assert "canary" not in str(error.value)


def test_a_missing_driver_is_named_with_its_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"psycopg is not installed; run: pip install -e '\.\[postgres\]'"):
        postgres.databases("postgresql://me@127.0.0.1:5432")


def test_without_postgresql_the_servers_keep_their_state_in_sqlite_files() -> None:
    assert postgres.databases("") == {}
