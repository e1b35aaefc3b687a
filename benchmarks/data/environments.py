"""Keep what is measured beside Tunemill in environments of their own under the home: bench/<name>."""

import subprocess
import sys
from pathlib import Path

from tunemill.home import Home

FLOOR = "pysimdjson==7.0.2"
PEERS: dict[str, tuple[str, ...]] = {
    "rensa": ("rensa==0.5.0",),
    "datasketch": ("datasketch==2.0.0",),
    "text-dedup": ("text-dedup==0.4.0", "setuptools<81"),
    "datatrove": ("datatrove==0.10.1", "regex==2026.11.19", "spacy==3.8.18", "tokenizers==0.23.3", "xxhash==3.8.2"),
    "data-juicer": ("py-data-juicer==1.6.1", "aiohttp==3.14.5", "ray==2.60.0", "scipy==1.17.1"),
}
"""Name → what pip installs: the engine, then what it needs and does not ask for. Each has a script of its name in
peers/, which lists its settings."""


class NotInstalled(Exception):
    """An environment could not be made; the message says why."""


def folder() -> Path:
    """Give the folder for everything that benchmarks leave behind."""
    return Home.find().root / "bench"


def python_of(name: str, requirements: tuple[str, ...]) -> Path:
    """Give the interpreter of an environment, installed only where it is not there; NotInstalled where that fails."""
    place = folder() / name
    python, mark = place / "bin/python", place / "installed.txt"
    wanted = "\n".join(requirements)
    if mark.is_file() and mark.read_text() == wanted:
        return python
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
    for command in ([sys.executable, "-m", "venv", "--clear", str(place)], pip):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
            raise NotInstalled(f"not installed: {last[0][:200]}")
    mark.write_text(wanted)
    return python
