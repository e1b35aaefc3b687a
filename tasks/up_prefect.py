"""Tell a new Prefect server what a machine needs: pools, their limits, who is taken for dead, and the deployments."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import yaml

from tasks.machine import HEARTBEAT, MARK, Machine
from tasks.prefect_api import ask, found
from tasks.up_services import CPU_POOL, GPU_POOL
from tunemill.errors import ConfigError
from tunemill.home import PROJECT, Home

DEPLOYMENTS = PROJECT / "deployments" / "prefect.yaml"
SILENCE = 75
"""Seconds without a sign of life after which a run is called crashed: two signs may be lost, and with the 5 s between
two looks of the server a slot is free within 90."""
AUTOMATION = "tunemill: no heartbeat, so crashed"


def make_pools(machine: Machine) -> None:
    """Make each pool that the machine or a deployment names, and let the GPU pool run one at a time on each GPU.

    The limit of another pool is set when it is made, and then left as a person sets it.
    """
    for name in sorted({CPU_POOL, GPU_POOL, *(each["work_pool"]["name"] for each in declared())}):
        limit = max(machine.gpus, 1) if name == GPU_POOL else max(2, (os.cpu_count() or 1) // 2)
        if found(machine.api, f"work_pools/{name}") is None:
            pool = {"name": name, "type": "process", "concurrency_limit": limit, "base_job_template": _template()}
            ask(machine.api, "work_pools/", pool)
        elif name == GPU_POOL:
            ask(machine.api, f"work_pools/{name}", {"concurrency_limit": limit}, "PATCH")


def _template() -> Any:
    """Give Prefect's template of a pool whose runs are processes; the server would ask the network for it."""
    code = (
        "import orjson, sys; from prefect.workers.process import ProcessWorker as Worker; "
        "sys.stdout.buffer.write(orjson.dumps(Worker.get_default_base_job_template()))"
    )
    return orjson.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)


def call_the_silent_crashed(machine: Machine) -> None:
    """Make the automation without which a run that died with its worker would be Running for ever.

    One that stands and says the same is left alone: a change makes the server forget whom it waits for. Any event of a
    run counts as a sign of life, also that it was suspended: then it rests and is silent by right.
    """
    automation = {
        "name": AUTOMATION,
        "description": f"A flow run that is silent for {SILENCE} s is called crashed, and its slot is free.",
        "enabled": True,
        "trigger": {
            "type": "event",
            "posture": "Proactive",
            "match": {"prefect.resource.id": ["prefect.flow-run.*"]},
            "for_each": ["prefect.resource.id"],
            "after": ["prefect.flow-run.heartbeat"],
            "expect": ["prefect.flow-run.*"],
            "threshold": 1,
            "within": SILENCE,
        },
        "actions": [
            {
                "type": "change-flow-run-state",
                "state": "CRASHED",
                "name": "Crashed",
                "message": f"Silent for {SILENCE} s (it gives a sign of life every {HEARTBEAT} s): its process is gone",
            }
        ],
    }
    asked = {"automations": {"name": {"any_": [AUTOMATION]}}}
    standing: list[dict[str, Any]] = ask(machine.api, "automations/filter", asked)
    if standing and standing[0]["description"] != automation["description"]:
        ask(machine.api, f"automations/{standing[0]['id']}", automation, "PUT")
    elif not standing:
        ask(machine.api, "automations/", automation)


def close_dead_runs(machine: Machine) -> list[str]:
    """Call those runs crashed, with their subflows, that a pool of this server left open; give their names.

    Called before a worker starts and after the processes of an earlier machine were ended, so none of them lives. The
    automation alone would not do: a server forgets after a minute whom it waited for when it went down.
    """
    pools = [pool["name"] for pool in ask(machine.api, "work_pools/filter", {})]
    open_ = {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}}
    dead = ask(machine.api, "flow_runs/filter", {"work_pools": {"name": {"any_": pools}}, "flow_runs": open_})
    within = open_ | {"parent_flow_run_id": {"any_": [run["id"] for run in dead]}}
    inside = ask(machine.api, "flow_runs/filter", {"flow_runs": within}) if dead else []
    told = "Its machine was stopped or killed while it ran. Run it again: stages that are held are not made again"
    for run in [*inside, *dead]:
        crashed = {"state": {"type": "CRASHED", "name": "Crashed", "message": told}, "force": True}
        ask(machine.api, f"flow_runs/{run['id']}/set_state", crashed)
    return [run["name"] for run in dead]


def declared() -> list[dict[str, Any]]:
    """Read the deployments that the file declares."""
    deployments: list[dict[str, Any]] = yaml.safe_load(DEPLOYMENTS.read_text(encoding="utf-8"))["deployments"]
    return deployments


def deploy(machine: Machine, home: Home, log: Path) -> None:
    """Deploy the file as `prefect deploy --all` does; what was switched elsewhere is again as the file says.

    Raises:
        ConfigError: Prefect does not take it; the message has the end of what it said.
    """
    words = ["prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(DEPLOYMENTS.relative_to(PROJECT))]
    environment = {**os.environ, **home.environment(), **machine.environment(), MARK: str(home.root)}
    with log.open("ab") as said:
        status = subprocess.run(
            [sys.executable, "-m", *words], stdout=said, stderr=said, stdin=subprocess.DEVNULL, cwd=PROJECT,
            env=environment, check=False,
        ).returncode  # fmt: skip
    if status:
        last = "\n  ".join(last_lines(log))
        raise ConfigError(f"{DEPLOYMENTS} was not deployed (status {status}); the end of {log}:\n  {last}")


def last_lines(log: Path, count: int = 12) -> list[str]:
    """Give the end of a log, without escapes and empty lines."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 20_000))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    lines = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text).splitlines()
    return [line.rstrip() for line in lines if line.strip()][-count:]
