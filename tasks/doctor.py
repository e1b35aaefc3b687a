"""Doctor: say what this machine has and what is missing, each with the way to get it."""

import importlib.metadata
import os
import re
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from tunemill.exporting import converter
from tunemill.home import PROJECT, Home

NEEDED_GB = 10
"""Free disk that a run on a small model is safe with; an 8B model needs about 60."""
SECONDS = 3
"""How long a server may take to answer."""


class Finding(BaseModel):
    """One thing that was looked at."""

    name: str
    state: Literal["ok", "note", "missing"]
    found: str
    cure: str = ""


def examine() -> list[Finding]:
    """Look at everything that a run needs; only `missing` would stop one."""
    return [*_python(), *_packages(), _gpu(), _disk(), *_tools(), _converter(), *_servers()]


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11) and sys.platform == "linux"
    cure = "" if good else "use Python 3.11 or newer on Linux"
    yield Finding(name="python", state="ok" if good else "missing", found=f"{version} on {sys.platform}", cure=cure)


def _packages() -> Iterator[Finding]:
    """Compare what is installed with the lock: the unpinned install is known to break in silence."""
    lock = PROJECT / "requirements.lock"
    pinned = dict(re.findall(r"(?m)^([A-Za-z0-9_.-]+)==(\S+)", lock.read_text())) if lock.is_file() else {}
    other = {name: found for name, version in pinned.items() if (found := _version(name)) not in (version, None)}
    absent = [name for name in pinned if _version(name) is None]
    if not other and not absent:
        yield Finding(name="packages", state="ok", found=f"{len(pinned)} as locked")
        return
    named = [f"{name} {found} (locked {pinned[name]})" for name, found in other.items()] + [
        f"{n} absent" for n in absent
    ]
    more = f" and {len(named) - 5} more" if len(named) > 5 else ""
    yield Finding(
        name="packages",
        state="missing",
        found=f"{len(named)} of {len(pinned)} differ from the lock: {', '.join(named[:5])}{more}",
        cure="pip install -r requirements.lock",
    )


def _version(name: str) -> str | None:
    """Give the version without its local part: torch 2.13.0+cpu and 2.13.0 are one release."""
    try:
        return importlib.metadata.version(name).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def _gpu() -> Finding:
    import torch

    if not torch.cuda.is_available():
        built = (
            "this torch is a CPU build"
            if torch.version.cuda is None
            else f"torch is built for CUDA {torch.version.cuda}"
        )
        cure = (
            "without one, models of up to about 1B train in hours; install a CUDA build of torch where there is a GPU"
        )
        return Finding(name="gpu", state="note", found=f"none; {built}", cure=cure)
    free, total = (size / 2**30 for size in torch.cuda.mem_get_info())
    kind = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    found = f"{torch.cuda.get_device_name()}, {free:.0f} of {total:.0f} GiB free, {kind}"
    return Finding(name="gpu", state="ok", found=found)


def _disk() -> Finding:
    home = Home.find().root
    place = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(place).free / 1e9
    try:
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        cure, found = (
            "set TUNEMILL_HOME to a folder that can be written",
            f"{home} cannot be written ({error.strerror})",
        )
        return Finding(name="disk", state="missing", found=found, cure=cure)
    enough = free >= NEEDED_GB
    cure = "" if enough else f"free {NEEDED_GB} GB, or set TUNEMILL_HOME to another disk"
    return Finding(name="disk", state="ok" if enough else "missing", found=f"{free:.0f} GB free for {home}", cure=cure)


def _tools() -> Iterator[Finding]:
    for name, use in (("xllamacpp", "llama.cpp: answers from a GGUF"), ("cyllama", "llama.cpp: quantizes a GGUF")):
        version = _version(name)
        cure = "" if version else "pip install -e '.[gguf]'"
        yield Finding(
            name=name, state="ok" if version else "missing", found=f"{version or 'absent'} ({use})", cure=cure
        )


def _converter() -> Finding:
    folder = Home.find().root / "tools" / converter.FOLDER
    there = converter.is_installed(folder)
    cure = "" if there else "python -m tunemill.exporting.converter; the first run gets it as well"
    found = f"{converter.FOLDER} {'as pinned' if there else 'absent or damaged'} (writes GGUF)"
    return Finding(name="converter", state="ok" if there else "note", found=found, cure=cure)


def _servers() -> Iterator[Finding]:
    api = os.environ.get("PREFECT_API_URL")
    if api is None:
        found = "PREFECT_API_URL is not set: each run starts a temporary server of its own"
        yield Finding(name="prefect", state="ok", found=found)
    else:
        yield _answers("prefect", f"{api.rstrip('/')}/health", "start it: prefect server start")
    uri = Home.find().tracking_uri
    if uri.startswith("http"):
        yield _answers("mlflow", f"{uri.rstrip('/')}/health", "start it: mlflow server; runs go on without it")
    else:
        path = Path(uri.removeprefix("sqlite:///"))
        found = f"{uri} ({'stands' if path.exists() else 'made by the first run'})"
        yield Finding(name="mlflow", state="ok", found=found)


def _answers(name: str, url: str, cure: str) -> Finding:
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as reply:  # an address that the user set
            return Finding(name=name, state="ok", found=f"{url} answers {reply.status}")
    except (urllib.error.URLError, OSError, ValueError) as error:
        return Finding(name=name, state="missing", found=f"{url} does not answer ({error})", cure=cure)


def shown(findings: list[Finding]) -> str:
    """Give the findings as lines of text."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:<8} {finding.name:<10} {finding.found}")
        if finding.cure:
            lines.append(f"{'':<19} {finding.cure}")
    return "\n".join(lines)
