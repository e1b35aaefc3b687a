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
}
"""Name → what pip installs. Each has a script of its name in peers/, which lists its settings."""


def folder() -> Path:
    """Give the folder for everything that benchmarks leave behind."""
    return Home.find().root / "bench"


def python_of(name: str, requirements: tuple[str, ...]) -> Path | None:
    """Give the interpreter of an environment, installed only where it is not there; None where pip fails."""
    place = folder() / name
    python, mark = place / "bin/python", place / "installed.txt"
    wanted = "\n".join(requirements)
    if mark.is_file() and mark.read_text() == wanted:
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(f"{name}: pip could not install {wanted!r}: {done.stderr.strip()[-300:]}", file=sys.stderr)
        return None
    mark.write_text(wanted)
    return python
