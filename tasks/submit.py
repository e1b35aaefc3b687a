"""Submit: start a run of the deployment on the machine that is up, and follow it to its end."""

import os
import re
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tasks import machine as machines
from tasks.killed import records
from tasks.prefect_api import NoAnswer, ask, found
from tunemill import errors
from tunemill.errors import ConfigError, TunemillError
from tunemill.home import PROJECT, Home

DEPLOYMENT = "finetune/finetune"
PAUSE = 2
PATIENCE = 120
"""Seconds that a server may be away while a run is followed; it is started again meanwhile."""
ERROR, NEWLINE = 40, "\n"
FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def submit(home: Home, config: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Start the deployment with this configuration; give the run's name, id and page.

    Raises:
        ConfigError: no server is named or up, it has no such deployment, or it refuses the parameters.
    """
    api = _server(home)
    deployment = found(api, f"deployments/name/{DEPLOYMENT}")
    if deployment is None:
        raise ConfigError(f"Prefect at {api} has no deployment {DEPLOYMENT}; `tunemill up` makes it")
    offered = deployment["parameter_openapi_schema"]["properties"]["config"].get("enum", [])
    if _named(config) not in offered:
        raise ConfigError(
            f"{_named(config)} is none of the {len(offered):,} configurations that {DEPLOYMENT} offers: "
            f"{', '.join(offered)}\n  Put it into pipeline_configs/ and start the machine anew, which deploys it."
        )
    parameters = {"config": _named(config), "overrides": list(overrides)}
    asked = {"parameters": parameters, "idempotency_key": secrets.token_hex(16)}
    run = ask(api, f"deployments/{deployment['id']}/create_flow_run", asked)
    page = f"{api.removesuffix('/api')}/runs/flow-run/{run['id']}"
    return {"run": run["name"], "id": run["id"], "page": page, "api": api, "parameters": parameters}


def _server(home: Home) -> str:
    """Give the API that the environment names, else that of the machine that is up."""
    if named := os.environ.get("PREFECT_API_URL"):
        return named.rstrip("/")
    machine = machines.living(home)
    if machine is None or not machine.up:
        raise ConfigError("no machine is up for this home; start one in another terminal: tunemill up")
    return machine.api


def _named(config: Path) -> str:
    """Name a file of the project as every machine knows it; another one by its whole path."""
    return str(config.relative_to(PROJECT)) if config.is_relative_to(PROJECT) else str(config)


def shown(sent: dict[str, Any]) -> str:
    """Say which run was started and where to look at it."""
    return f"submitted {sent['run']} of {DEPLOYMENT}\n  {sent['page']}"


def follow(home: Home, sent: dict[str, Any], say: Callable[[str], None]) -> int:
    """Tell each new state and line of the run's log until it ends; give the exit status that `tunemill run` would have.

    0 done and the gate says PROMOTE, 4 another verdict, 2 or 3 one of our own errors by its kind, 1 everything else.
    """
    said, last, heard = 0, "", time.monotonic()
    while True:
        try:
            run = ask(sent["api"], f"flow_runs/{sent['id']}")
            lines = _lines(sent, said)
            heard = time.monotonic()
        except NoAnswer:
            if time.monotonic() - heard > PATIENCE:
                raise
            time.sleep(PAUSE)
            continue
        for line in lines:
            if line["level"] < ERROR:  # with its traceback; why it failed is told once, at the end
                say(f"  {line['message'].partition(NEWLINE)[0]}")
        said += len(lines)
        if run["state_name"] != last:
            last = run["state_name"]
            say(f"{sent['run']}: {last}")
        if run["state_type"] in FINAL:
            return _ended(home, sent, run, say)
        time.sleep(PAUSE)


def _lines(sent: dict[str, Any], skipped: int) -> list[dict[str, Any]]:
    asked = {"logs": {"flow_run_id": {"any_": [sent["id"]]}}, "sort": "TIMESTAMP_ASC", "offset": skipped, "limit": 200}
    lines: list[dict[str, Any]] = ask(sent["api"], "logs/filter", asked)
    return lines


def _ended(home: Home, sent: dict[str, Any], run: dict[str, Any], say: Callable[[str], None]) -> int:
    record = next((seen for _, seen in records(home) if seen.get("prefect_flow_run") == sent["id"]), {})
    if run["state_type"] == "COMPLETED":
        say(f"verdict of the gate: {record.get('gate') or 'not in this home; look at ' + sent['page']}")
        return 4 if record.get("gate") not in (None, "PROMOTE") else 0
    error = record.get("error") or (run["state"] or {}).get("message") or "no reason was given"
    say(error)
    return exit_status(error)


def exit_status(error: str) -> int:
    """Give the exit status of an error by the name of its class, as it stands in a record or in a state's message."""
    for name in re.findall(r"\b([A-Z]\w+): ", error):
        kind = getattr(errors, name, None)
        if isinstance(kind, type) and issubclass(kind, TunemillError):
            return kind.exit_code
    return 1
