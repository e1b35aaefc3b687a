"""Up: run a machine on loopback, its servers and its workers, until it is told to stop.

Everything is started by one process, which waits in the foreground. A service that dies is told of with the end of its
log and started again, at most five times in ten minutes. The kernel ends the services with this process, however it
dies; the runs that a worker started are found by their mark and ended by the next `up` or `down`.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil

from tasks import machine as machines
from tasks.machine import Machine, Service
from tasks.up_prefect import call_the_silent_crashed, close_dead_runs, deploy, last_lines, make_pools
from tasks.up_services import Command, Sockets, address, graphics_cards, ready, servers, workers
from tunemill.child import end_with_parent
from tunemill.errors import TunemillError
from tunemill.home import PROJECT, Home

START_SECONDS = 180
"""How long a service may take until it is ready; MLflow's first start takes up to 40 s on two slow cores."""
STARTS, CALM = 5, 600
"""A service that dies more than this often within so many seconds is given up."""
TICK = 0.5

Say = Callable[[str], None]


class Supervisor:
    """Start services, start again those that die, and stop all of them."""

    def __init__(self, home: Home, machine: Machine, say: Say) -> None:
        self.home, self.machine, self.say = home, machine, say
        self.commands: dict[str, Command] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.died: dict[str, list[float]] = {}

    def start(self, name: str, command: Command) -> None:
        """Start a service; it is not ready yet."""
        log = machines.folder(self.home) / f"{name}.log"
        service = self.machine.services.setdefault(name, Service(name=name, log=str(log)))
        self.commands[name] = command
        service.state, service.since = "starting", machines.now()
        with log.open("ab") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", *command.words],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd=PROJECT,
                env=command.whole_environment(self.home),
                pass_fds=command.sockets,
                start_new_session=True,  # Ctrl-C must reach this process alone, which stops the others in order
                preexec_fn=end_with_parent,
            )
        self.processes[name], service.pid = process, process.pid
        self.machine.write(self.home)

    def wait(self, *names: str) -> None:
        """Wait until these services are ready.

        Raises:
            TunemillError: one ended, or took too long.
        """
        deadline = time.monotonic() + START_SECONDS
        for name in names:
            while not ready(name, self.commands[name], self.machine):
                for each, process in self.processes.items():
                    if process.poll() is not None:
                        raise TunemillError(
                            f"{each} ended {_how(process.returncode)} while it started{self._end_of(each)}"
                        )
                if time.monotonic() > deadline:
                    raise TunemillError(f"{name} was not ready after {START_SECONDS} s{self._end_of(name)}")
                time.sleep(TICK)
            self.machine.services[name].state = "running"

    def watch(self) -> None:
        """Keep the services running, for ever."""
        while True:
            for name in self.commands:
                self._look(name)
            time.sleep(TICK)

    def _look(self, name: str) -> None:
        service, process = self.machine.services[name], self.processes[name]
        if service.state == "waiting":
            if self._may_start(name):
                self.start(name, self.commands[name])
        elif service.state != "given up" and process.poll() is not None:
            self._mourn(name, process.returncode)
        elif service.state == "starting" and ready(name, self.commands[name], self.machine):
            service.state = "running"
            self.machine.write(self.home)
            self.say(f"{machines.now()}  {name} runs again (pid {service.pid})")

    def _mourn(self, name: str, status: int) -> None:
        service, now = self.machine.services[name], time.monotonic()
        service.deaths += 1
        self.died[name] = [*(at for at in self.died.get(name, []) if now - at < CALM), now]
        often = len(self.died[name])
        service.state = "waiting" if often <= STARTS else "given up"
        then = f"it is started again ({often} of {STARTS} times in {CALM // 60} minutes)"
        if service.state == "given up":
            then = f"it died {often} times in {CALM // 60} minutes and is NOT started again; the rest goes on"
        self.say(f"{machines.now()}  {name.upper()} DIED {_how(status)}; {then}{self._end_of(name)}")
        self.machine.write(self.home)

    def _may_start(self, name: str) -> bool:
        """Wait longer each time, and with several GPUs until what a dead worker left on its own has ended."""
        pause = 2 ** (len(self.died[name]) - 1) - 1
        if time.monotonic() < self.died[name][-1] + pause:
            return False
        return self.machine.gpus < 2 or not self.commands[name].pool or not self._orphans(name)

    def _orphans(self, name: str) -> bool:
        """Say whether a run that a dead worker started on its GPU still lives."""
        card = self.commands[name].environment.get("CUDA_VISIBLE_DEVICES")
        own = {process.pid for process in self.processes.values()}
        for process in machines.left_over(self.home):
            with contextlib.suppress(psutil.Error):
                if process.pid not in own and card and process.environ().get("CUDA_VISIBLE_DEVICES") == card:
                    return True
        return False

    def stop(self) -> list[str]:
        """Stop the workers and their runs, then the servers, which hear meanwhile how the runs ended; say what was."""
        living = [name for name, process in self.processes.items() if process.poll() is None]
        at_work = [name for name in living if self.commands[name].pool]
        answering = [name for name in living if name not in at_work]
        servers = {self.processes[name].pid for name in answering}
        # A worker that is told to stop kills its runs if they end meanwhile, before they have saved their state.
        suspended = [psutil.Process(self.processes[name].pid) for name in at_work]
        for worker in suspended:
            worker.suspend()
        machines.end_all(self.home, {*servers, *(worker.pid for worker in suspended)})
        for worker in suspended:
            worker.resume()
        machines.end_all(self.home, servers)
        machines.end([psutil.Process(self.processes[name].pid) for name in answering], 15)
        for process in self.processes.values():
            process.wait()
        return [*at_work, *answering]

    def _end_of(self, name: str) -> str:
        log = Path(self.machine.services[name].log)
        return f"; the end of {log}:\n  " + "\n  ".join(last_lines(log) or ["(nothing)"])


def _how(status: int) -> str:
    return f"by signal {-status}" if status < 0 else f"with status {status}"


def up(home: Home, port_base: int, databases: Mapping[str, str], say: Say) -> None:
    """Run the machine of this home until Ctrl-C or SIGTERM; where it lives already, say so and return.

    Raises:
        ConfigError: a port is taken, or the deployments are not taken by Prefect.
        TunemillError: a service did not come up; nothing is left running.
    """
    with machines.held(home) as own:
        if not own:
            say(already(machines.read(home)))
            return
        for told in machines.clean(home):
            say(f"ended what a killed machine left: {told}")
        with _told_to_stop():
            _run(home, port_base, databases, say)


def _run(home: Home, port_base: int, databases: Mapping[str, str], say: Say) -> None:
    sockets = Sockets.listening(port_base)
    machine = Machine(
        pid=os.getpid(),
        created=psutil.Process().create_time(),
        since=machines.now(),
        prefect=address(sockets.prefect),
        mlflow=address(sockets.mlflow),
        database="postgresql" if databases else "sqlite",
    )
    supervisor = Supervisor(home, machine, say)
    try:
        _start(supervisor, home, sockets, databases)
        say(welcome(machine, home))
        supervisor.watch()
    except KeyboardInterrupt:
        say("\nstopping: workers and their runs first, then the servers (again to kill them)")
    finally:
        try:
            stopped = supervisor.stop()
        except KeyboardInterrupt:
            machines.end(machines.left_over(home), 0)
            stopped = ["all, by force"]
        sockets.close()
        machines.record(home).unlink(missing_ok=True)
        say(f"stopped: {', '.join(stopped) or 'nothing ran'}")


def _start(supervisor: Supervisor, home: Home, sockets: Sockets, databases: Mapping[str, str]) -> None:
    machine, say = supervisor.machine, supervisor.say
    say(f"starting Prefect and MLflow; logs in {machines.folder(home)}")
    for name, command in servers(home, sockets, databases).items():
        supervisor.start(name, command)
    cards = graphics_cards()
    machine.gpus = len(cards)
    supervisor.wait("prefect")
    say("making pools and deployments, starting workers")
    make_pools(machine)
    call_the_silent_crashed(machine)
    for name in close_dead_runs(machine):
        say(f"{name} was running when the machine went down: it is called crashed; submit it again")
    at_work = workers(machine, cards)
    for name, command in at_work.items():
        supervisor.start(name, command)
    deploy(machine, home, machines.folder(home) / "deploy.log")
    supervisor.wait("mlflow", *at_work)
    machine.up = True
    machine.write(home)


@contextlib.contextmanager
def _told_to_stop() -> Iterator[None]:
    """Let SIGTERM stop the machine as Ctrl-C does, and Ctrl-C also where a shell started us in the background."""
    before = {each: signal.signal(each, signal.default_int_handler) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def already(machine: Machine | None) -> str:
    """Say that the machine is up already, or that it is on its way."""
    if machine is None or not machine.up:
        return "the machine of this home is starting or stopping; `tunemill status` says when it is up"
    return (
        f"the machine is up already, since {machine.since} (pid {machine.pid})\n"
        f"  Prefect  {machine.prefect}\n  MLflow   {machine.mlflow}\n"
        "tunemill status says what runs; tunemill down stops it"
    )


def welcome(machine: Machine, home: Home) -> str:
    """Say where everything is and what to do next."""
    runs = f"{machine.gpus} at a time, one on each GPU"
    if not machine.gpus:
        runs = "1 at a time; no GPU was found: TRAINING GOES ON CPU"
    return "\n".join(
        [
            "the machine is up",
            f"  Prefect   {machine.prefect}   runs, schedules, pools; database: {machine.database}",
            f"  MLflow    {machine.mlflow}   experiments, models",
            "  cpu-pool  whole pipelines and data stages",
            f"  gpu-pool  {runs}",
            f"  logs      {machines.folder(home)}",
            "next, in another terminal:",
            "  tunemill submit pipeline_configs/quickstart.yaml --watch",
            "  tunemill status",
            "Ctrl-C here or `tunemill down` stops all of it.",
        ]
    )
