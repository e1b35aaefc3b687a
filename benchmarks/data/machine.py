"""Say on what machine, when and with what a run was made, and whether anything else was running."""

import datetime
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def machine(packages: Sequence[str]) -> dict[str, Any]:
    """Give cores, model, memory in GB, load, date and versions."""
    cpu = _first("/proc/cpuinfo", "model name").partition(":")[2].strip() or platform.processor()
    memory = int(_first("/proc/meminfo", "MemTotal").split()[1]) / 1e6 if Path("/proc/meminfo").is_file() else 0
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    return {
        "cores": cores,
        "cpu": cpu,
        "memory_gb": round(memory, 1),
        "load": round(load, 2),
        "busy": load > 0.25 * cores,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": {package: importlib.metadata.version(package) for package in packages},
    }


def sentence(found: dict[str, Any]) -> str:
    """Write that in one paragraph."""
    state = (
        "The machine was busy with other work, so wall seconds are too high and CPU seconds less exact."
        if found["busy"]
        else "Nothing else of weight was running."
    )
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return (
        f"{found['date']}, {found['cores']} cores ({found['cpu']}), {found['memory_gb']} GB, "
        f"load average {found['load']} at the start. {state} Python {found['python']}, {versions}."
    )


def _first(path: str, start: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith(start)), "")
