import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tunemill.home import PROJECT

HEAVY = "torch transformers prefect mlflow great_expectations datasets matplotlib"


def tunemill(home: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    code = (
        "import sys, atexit\n"
        f"atexit.register(lambda: print([m for m in '{HEAVY}'.split() if m in sys.modules], file=sys.stderr))\n"
        "from tunemill.cli import main\nmain()"
    )
    environment = {**os.environ, "TUNEMILL_HOME": str(home)}
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=PROJECT, check=False)


def test_plan_loads_none_of_the_heavy_libraries(tmp_path: Path) -> None:
    done = tunemill(tmp_path, "plan", "pipeline_configs/quickstart.yaml")
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip().endswith("[]")
    assert done.stdout.splitlines()[0].startswith("ingest       runs")


def test_a_bad_configuration_exits_with_2_and_no_traceback(tmp_path: Path) -> None:
    done = tunemill(tmp_path, "plan", "pipeline_configs/quickstart.yaml", "--set", "train.epoch=2")
    assert done.returncode == 2
    assert "train.epoch: no such setting; did you mean `epochs`?" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_readme_shows_the_help_that_is_printed(tmp_path: Path) -> None:
    environment = {**os.environ, "COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1", "TUNEMILL_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "tunemill.cli", "--help"]
    printed = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=PROJECT, check=True).stdout
    lines = [line.rstrip() for line in printed.replace("python -m tunemill.cli", "tunemill").splitlines()]
    text = "\n".join(lines).strip()
    assert f"```\n$ tunemill --help\n{text}\n```" in (PROJECT / "README.md").read_text(), text


def test_the_readme_shows_the_configuration_that_is_run() -> None:
    text = (PROJECT / "pipeline_configs" / "quickstart.yaml").read_text()
    assert f"```yaml\n{text}```" in (PROJECT / "README.md").read_text()


@pytest.mark.parametrize("path", sorted(PROJECT.glob("deployments/*.yaml")), ids=lambda path: path.name)
def test_every_deployed_entrypoint_stands(path: Path) -> None:
    for deployment in yaml.safe_load(path.read_text())["deployments"]:
        module, _, name = deployment["entrypoint"].rpartition(".")
        assert f"def {name}(" in (PROJECT / f"{module.replace('.', '/')}.py").read_text()
