"""Take pictures of what MLflow shows of a registered version: its own page, its files and its run.

    python examples/mlflow_page.py                      the newest version in TUNEMILL_HOME
    python examples/mlflow_page.py --model quickstart --version 1 --out pictures

An MLflow server is started on loopback for as long as the pictures take (a minute), with Debian's Chromium as the eyes.
"""

import argparse
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tunemill.errors import ConfigError, TunemillError
from tunemill.home import Home
from tunemill.registry import Registry, Version

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
NAMED = "mlflow.localhost"
"""A name of loopback that MLflow does not know as one: at `127.0.0.1` its assistant opens over a third of the page."""
STARTS_WITHIN = 180
"""Seconds; the server needs 30 on an idle machine."""
HEIGHT = 1500
"""Height of a picture, in pixels; a page that is longer is cut."""


def main() -> None:
    """Write one PNG a page and print where it lies."""
    asked = _arguments()
    home = Home(asked.home.resolve()) if asked.home else Home.find()
    os.environ.update(home.environment())
    version = newest(Registry(home), asked.model, asked.version)
    folder = asked.out or home.root / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    browser = found_browser()
    with served(home) as address:
        for name, page in pages(Registry(home), version).items():
            picture = folder / f"{version.name}-{version.number}-{name}.png"
            photograph(browser, f"{address}/#{page}", picture)
            print(picture)


def newest(registry: Registry, model: str | None, number: int | None) -> Version:
    """Choose the version that was asked for, or the newest of the model.

    Raises:
        ConfigError: it is not registered; the message names what is.
    """
    names = [model] if model else registry.names()
    known = [version for name in names for version in registry.versions(name)]
    wanted = [version for version in known if number in (None, version.number)]
    if not wanted:
        listed = ", ".join(str(version) for version in known) or f"no version of {model or 'any model'}"
        raise ConfigError(f"{registry.home.root} does not hold it; there is {listed}; `tunemill run CONFIG` makes one")
    return wanted[-1]


def pages(registry: Registry, version: Version) -> dict[str, str]:
    """Name the pages of a version, each as the part of the address after `#`."""
    experiment = registry.client.get_run(version.run_id).info.experiment_id
    model = f"/experiments/{experiment}/models/{version.model_id}"
    run = f"/experiments/{experiment}/runs/{version.run_id}"
    return {
        "version": f"/models/{version.name}/versions/{version.number}",
        "all-versions": f"/models/{version.name}",
        "scores": model,
        "files": f"{model}/artifacts",
        "run": run,
        "report": f"{run}/artifacts/evaluate/report.md",
    }


def found_browser() -> str:
    """Find Chromium.

    Raises:
        ConfigError: it is not installed; the message says how to get it.
    """
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    raise ConfigError("Chromium is not installed; run: apt-get update && apt-get install -y chromium")


@contextlib.contextmanager
def served(home: Home) -> Iterator[str]:
    """Serve the home's MLflow on a free port of loopback while the block lasts; give its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", home.tracking_uri]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--allowed-hosts", f"127.0.0.1:{port},{NAMED}:{port}"]
    command += ["--cors-allowed-origins", f"http://{NAMED}:{port}"]
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, cwd=home.root)
        try:
            _wait(server, f"http://127.0.0.1:{port}", log)
            yield f"http://{NAMED}:{port}"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, 15)
            server.wait(timeout=30)


def _wait(server: "subprocess.Popen[bytes]", address: str, log: IO[bytes]) -> None:
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(f"{address}/health"):
            return
        time.sleep(0.5)
    log.seek(0)
    raise TunemillError(f"MLflow's server did not answer at {address}:\n{log.read().decode()[-2000:]}")


def photograph(browser: str, address: str, picture: Path) -> None:
    """Write a PNG of a page as it stands after its scripts have had a minute of their own clock."""
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
        command += ["--virtual-time-budget=60000", f"--window-size=1600,{HEIGHT}", f"--screenshot={picture}", address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    if not picture.is_file():
        raise TunemillError(f"{browser} wrote no picture of {address}:\n{done.stderr[-2000:]}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="state folder; default: TUNEMILL_HOME, else .tunemill/")
    parser.add_argument("--model", help="registered model, e.g. quickstart; default: the last by name")
    parser.add_argument("--version", type=int, help="version number; default: the newest")
    parser.add_argument("--out", type=Path, help="folder for the PNGs; default: pictures/ in the state folder")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except TunemillError as error:
        print(error, file=sys.stderr)
        raise SystemExit(error.exit_code) from None
