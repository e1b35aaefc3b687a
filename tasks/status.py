"""Status: what the machine of this home runs now, read from its record and from its Prefect server."""

from typing import Any

from tasks import machine as machines
from tasks.machine import Machine
from tasks.prefect_api import NoAnswer, ask
from tasks.up_services import answers
from tunemill.home import Home

SECONDS = 10


def status(home: Home) -> dict[str, Any]:
    """Say what runs; `up` is whether the machine came up and its Prefect server answers."""
    machine = machines.living(home)
    if machine is None:
        stale = machines.read(home)
        state = "starting or stopping" if machines.alive(home) else "killed" if stale else "down"
        return {"up": False, "state": state, "since": stale.since if stale else None}
    facts: dict[str, Any] = {
        "up": False,
        "state": "starting",
        "since": machine.since,
        "pid": machine.pid,
        "prefect": machine.prefect,
        "mlflow": machine.mlflow,
        "database": machine.database,
        "gpus": machine.gpus,
        "mlflow_answers": answers(f"{machine.mlflow}/health", SECONDS),
        "services": [service.model_dump() for service in machine.services.values()],
    }
    try:
        return facts | _asked(machine) | ({"up": True, "state": "up"} if machine.up else {})
    except NoAnswer as error:
        return facts | {"state": "Prefect does not answer" if machine.up else "starting", "error": str(error)}


def _asked(machine: Machine) -> dict[str, Any]:
    pools = _list(machine, "work_pools")
    return {
        "pools": [
            {
                "name": pool["name"],
                "limit": pool["concurrency_limit"],
                "used": _used(machine, pool["name"]),
                "paused": pool["is_paused"],
            }
            for pool in pools
        ],
        "workers": [
            {"name": each["name"], "pool": pool["name"], "state": each["status"], "heard": each["last_heartbeat_time"]}
            for pool in pools
            for each in ask(machine.api, f"work_pools/{pool['name']}/workers/filter", {}, seconds=SECONDS)
        ],
        "deployments": [_deployment(machine, each) for each in _list(machine, "deployments")],
    }


def _list(machine: Machine, what: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(machine.api, f"{what}/filter", {}, seconds=SECONDS)
    return sorted(found, key=lambda each: str(each["name"]))


def _used(machine: Machine, pool: str) -> int:
    busy = {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}}
    asked = {"work_pools": {"name": {"any_": [pool]}}, "flow_runs": busy}
    return int(ask(machine.api, "flow_runs/count", asked, seconds=SECONDS))


def _deployment(machine: Machine, deployment: dict[str, Any]) -> dict[str, Any]:
    asked = {
        "deployments": {"id": {"any_": [deployment["id"]]}},
        "flow_runs": {"state": {"type": {"not_any_": ["SCHEDULED"]}}},
        "sort": "EXPECTED_START_TIME_DESC",
        "limit": 3,
    }
    flow = ask(machine.api, f"flows/{deployment['flow_id']}", seconds=SECONDS)
    return {
        "name": f"{flow['name']}/{deployment['name']}",
        "pool": deployment["work_pool_name"],
        "schedules": [
            f"{each['schedule'].get('cron') or 'by interval'} {each['schedule'].get('timezone') or 'UTC'}"
            f"{'' if each['active'] else ' (off)'}"
            for each in deployment["schedules"]
        ],
        "last": [
            {
                "name": run["name"],
                "id": run["id"],
                "state": run["state_name"],
                "at": run["start_time"] or run["expected_start_time"],
            }
            for run in ask(machine.api, "flow_runs/filter", asked, seconds=SECONDS)
        ],
    }


def shown(facts: dict[str, Any]) -> str:
    """Give the facts as lines of text."""
    if "prefect" not in facts:
        if facts["state"] == "killed":
            return (
                f"the machine is down: it came up at {facts['since']} and was killed\n"
                "  tunemill up cleans up and starts it again; tunemill down cleans up"
            )
        return (
            "nothing is up; start it: tunemill up" if facts["state"] == "down" else f"the machine is {facts['state']}"
        )
    lines = [
        f"the machine is {facts['state']}, since {facts['since']} (pid {facts['pid']})"
        if facts["up"]
        else f"the machine is not up: {facts['state']} (since {facts['since']}, pid {facts['pid']})",
        f"  Prefect  {facts['prefect']}  database: {facts['database']}",
        f"  MLflow   {facts['mlflow']}{'' if facts['mlflow_answers'] else '  DOES NOT ANSWER'}",
        "services",
    ]
    lines += [
        f"  {each['name']:<10} {each['state']:<9} pid {each['pid']:<8} since {each['since']}{_deaths(each)}"
        for each in facts["services"]
    ]
    for title, entries, line in (
        ("workers", facts.get("workers", []), _worker),
        ("pools", facts.get("pools", []), _pool),
        ("deployments", facts.get("deployments", []), _runs),
    ):
        lines += [title, *(line(each) for each in entries)] if entries else []
    return "\n".join(lines)


def _deaths(service: dict[str, Any]) -> str:
    return f"  DIED {service['deaths']} ×, see {service['log']}" if service["deaths"] else ""


def _worker(worker: dict[str, Any]) -> str:
    return f"  {worker['name']:<10} {worker['state'].lower():<9} {worker['pool']:<12} heard {_second(worker['heard'])}"


def _pool(pool: dict[str, Any]) -> str:
    limit = "no limit" if pool["limit"] is None else f"{pool['limit']} slots"
    return f"  {pool['name']:<10} {pool['used']} of {limit} used{'  PAUSED' if pool['paused'] else ''}"


def _runs(deployment: dict[str, Any]) -> str:
    head = f"  {deployment['name']:<18} {deployment['pool'] or ''}  {'; '.join(deployment['schedules'])}".rstrip()
    runs = [f"    {run['name']:<24} {run['state']:<12} {_second(run['at'])}" for run in deployment["last"]]
    return "\n".join([head, *(runs or ["    no run yet"])])


def _second(time: str | None) -> str:
    return f"{time[:19]}+00:00" if time else "never"
