"""A whole machine: it comes up, mends itself, is killed, comes up again and goes down, and leaves no process."""

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.flows.processes import Ended, Process, kill_all, running
from tunemill.home import PROJECT

pytestmark = pytest.mark.flow

CONFIG = "pipeline_configs/minimal.yaml"


class Terminal:
    """Give commands of Tunemill under one home."""

    def __init__(self, home: Path) -> None:
        self.home, self.given = home, 0

    def start(self, *words: str) -> Process:
        self.given += 1
        return Process(self.home, f"{self.given}-{words[0]}", "-m", "tunemill.cli", *words)

    def command(self, *words: str, timeout: float = 120) -> Ended:
        return self.start(*words).end(timeout)

    def up(self) -> Process:
        """Start a machine on any ports and wait until it says that it is up."""
        machine = self.start("up", "--port-base", "0")
        wait_for(lambda: "the machine is up\n" in machine.written()[1], 180, machine)
        return machine

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.command("status", "--json").out)
        return answer

    def last(self) -> list[str]:
        """Give the states of the last runs."""
        return [run["state"] for each in self.status()["deployments"] for run in each["last"]]

    def services(self) -> dict[str, dict[str, Any]]:
        return {service["name"]: service for service in self.status()["services"]}


def wait_for(look: Any, seconds: float, machine: Process) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert machine.process.poll() is None, machine.written()
        assert time.monotonic() < deadline, machine.written()
        time.sleep(0.3)


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    home = tmp_path_factory.mktemp("up")
    yield Terminal(home)
    kill_all(home)
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def first(terminal: Terminal) -> Process:
    """Bring a machine up where nothing was."""
    return terminal.up()


@pytest.fixture(scope="module")
def killed(terminal: Terminal, first: Process) -> set[int]:
    """Kill the process that runs it in the middle of a run, so that it can stop nothing; give what it had started."""
    started = {service["pid"] for service in terminal.services().values()}
    assert terminal.command("submit", CONFIG).status == 0
    wait_for(lambda: "Running" in terminal.last(), 60, first)
    first.process.kill()
    first.process.wait()
    return started


@pytest.fixture(scope="module")
def second(terminal: Terminal, killed: set[int]) -> Process:
    """Bring it up again."""
    return terminal.up()


def test_status_shows_servers_workers_pools_and_deployments(terminal: Terminal, first: Process) -> None:
    seen = terminal.command("status", "--json")
    facts = json.loads(seen.out)
    assert (seen.status, facts["state"], facts["database"]) == (0, "up", "sqlite")
    assert {name: each["state"] for name, each in terminal.services().items()} == dict.fromkeys(
        ["prefect", "mlflow", "cpu", "gpu-0"], "running"
    )
    assert [(worker["name"], worker["pool"], worker["state"]) for worker in facts["workers"]] == [
        ("cpu", "cpu-pool", "ONLINE"),
        ("gpu-0", "gpu-pool", "ONLINE"),
    ]
    gpu = next(pool for pool in facts["pools"] if pool["name"] == "gpu-pool")
    assert (gpu["limit"], gpu["used"]) == (max(facts["gpus"], 1), 0)
    assert "finetune/finetune" in [deployment["name"] for deployment in facts["deployments"]]
    assert facts["mlflow_answers"]


def test_everything_listens_on_loopback_alone(terminal: Terminal, first: Process) -> None:
    listening = {
        connection.laddr.ip
        for process in running(terminal.home)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_the_server_calls_a_silent_run_crashed_within_75_seconds(terminal: Terminal, first: Process) -> None:
    found = httpx.post(f"{terminal.status()['prefect']}/api/automations/filter", json={}).json()
    (automation,) = [each for each in found if each["trigger"]["posture"] == "Proactive"]
    assert automation["enabled"]
    assert (automation["trigger"]["posture"], automation["trigger"]["within"]) == ("Proactive", 75)
    assert [(each["type"], each["state"]) for each in automation["actions"]] == [("change-flow-run-state", "CRASHED")]


def test_a_configuration_that_was_not_deployed_is_refused_by_name(
    terminal: Terminal, first: Process, tmp_path: Path
) -> None:
    other = tmp_path / "other.yaml"
    other.write_bytes((PROJECT / "pipeline_configs/minimal.yaml").read_bytes())
    ended = terminal.command("submit", str(other))
    assert ended.status == 2
    assert ended.err.startswith(f"{other} is none of the ")
    assert "start the machine anew" in ended.err


def test_a_second_up_says_that_it_is_up_and_exits_with_0(terminal: Terminal, first: Process) -> None:
    before = {process.pid for process in running(terminal.home)}
    ended = terminal.command("up", "--port-base", "0", timeout=20)
    assert ended.status == 0
    assert ended.err.startswith("the machine is up already, since ")
    assert terminal.status()["prefect"] in ended.err
    assert {process.pid for process in running(terminal.home)} == before


def test_a_submitted_run_is_followed_and_ends_with_the_status_of_its_error(terminal: Terminal, first: Process) -> None:
    ended = terminal.command("submit", CONFIG, "--set", "ingest.max_rejected=0", "--watch")
    assert ended.status == 3, ended
    assert "DataError: ingest: 4 of 102 records rejected (3.9%); the limit is 0.0%" in ended.err
    assert "Traceback" not in ended.err
    assert terminal.last() == ["Failed"]
    assert "/runs/flow-run/" in ended.out


def test_a_run_in_another_terminal_uses_the_servers_of_the_machine(terminal: Terminal, first: Process) -> None:
    ended = terminal.command("run", CONFIG, "--set", "ingest.max_rejected=0.01")
    assert ended.status == 3, ended
    seen = httpx.post(f"{terminal.status()['prefect']}/api/flow_runs/filter", json={}).json()
    assert len([run for run in seen if run["parameters"].get("overrides") == ["ingest.max_rejected=0.01"]]) == 1


def test_a_killed_worker_is_told_of_and_replaced(terminal: Terminal, first: Process) -> None:
    pid = terminal.services()["gpu-0"]["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: "gpu-0 runs again" in first.written()[1], 60, first)
    gpu = terminal.services()["gpu-0"]
    assert (gpu["state"], gpu["deaths"]) == ("running", 1)
    assert gpu["pid"] != pid
    assert "GPU-0 DIED by signal 9; it is started again (1 of 5 times in 10 minutes)" in first.written()[1]


def test_a_killed_server_is_back_at_its_address(terminal: Terminal, first: Process) -> None:
    before = terminal.status()
    os.kill(terminal.services()["prefect"]["pid"], signal.SIGKILL)
    wait_for(lambda: "prefect runs again" in first.written()[1], 60, first)
    after = terminal.status()
    assert (after["up"], after["prefect"]) == (True, before["prefect"])
    assert [each["name"] for each in after["deployments"]] == [each["name"] for each in before["deployments"]]


def test_the_services_of_a_killed_machine_end_with_it(terminal: Terminal, killed: set[int]) -> None:
    deadline = time.monotonic() + 10
    while left := killed & {process.pid for process in running(terminal.home)}:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    ended = terminal.command("status")
    assert ended.status == 3
    assert " and was killed\n" in ended.out


def test_the_next_up_ends_the_run_that_a_killed_machine_left_and_calls_it_crashed(
    terminal: Terminal, second: Process
) -> None:
    facts = terminal.status()
    assert (facts["up"], facts["pid"]) == (True, second.process.pid)
    assert "ended what a killed machine left: -m prefect.engine (pid " in second.written()[1]
    assert " was running when the machine went down: it is called crashed" in second.written()[1]
    assert terminal.last() == ["Crashed", "Failed"]
    assert [pool["used"] for pool in facts["pools"]] == [0] * len(facts["pools"])


def test_down_stops_all_and_says_what(terminal: Terminal, second: Process) -> None:
    ended = terminal.command("down")
    assert (ended.status, ended.out) == (0, "stopped: prefect, mlflow, cpu, gpu-0\n")
    assert second.process.wait(5) == 0
    assert running(terminal.home) == []
    again = terminal.command("down")
    assert (again.status, again.out) == (0, "nothing was up\n")


def test_ctrl_c_while_it_starts_leaves_no_process(terminal: Terminal) -> None:
    machine = terminal.start("up", "--port-base", "0")
    wait_for(lambda: "making pools" in machine.written()[1], 120, machine)
    machine.process.send_signal(signal.SIGINT)
    assert machine.process.wait(60) == 0
    assert machine.written()[1].rstrip().splitlines()[-1].startswith("stopped: ")
    assert running(terminal.home) == []
    assert terminal.command("status").status == 3
