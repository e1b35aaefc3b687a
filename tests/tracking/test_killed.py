"""Real processes, really killed, and what the next run makes of what they left."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tasks.run import Run, pipeline_run
from tunemill.artifacts import Evaluation
from tunemill.config import PipelineConfig
from tunemill.home import PROJECT, Home
from tunemill.tracking import Tracking

Go = Callable[..., Run]

RUNS = """
import sys, time
from tasks.run import pipeline_run
from tunemill.config import load
from tunemill.home import PROJECT
with pipeline_run(load(PROJECT / "pipeline_configs/quickstart.yaml")) as run:
    if sys.argv[1] == "tells":
        run.tracking().metrics([("train/loss", 2.0, 1)])
    print(run.id, flush=True)
    time.sleep(300)
"""

OPENS = """
import sys
from tasks.publish import publish
from tasks.run import pipeline_run
from tunemill.artifacts import Evaluation
from tunemill.config import load
from tunemill.home import PROJECT
with pipeline_run(load(PROJECT / "pipeline_configs/quickstart.yaml")) as run:
    if len(sys.argv) > 1:
        publish(Evaluation.model_validate_json(sys.argv[1]))
print(run.state, run.verdict, [name for name in ("mlflow", "torch") if name in sys.modules])
"""


def python(script: str, *words: str) -> "subprocess.Popen[str]":
    """Start a process on the home that the environment names."""
    environment = {**os.environ, "PYTHONPATH": f"{PROJECT}:{PROJECT / 'src'}"}
    return subprocess.Popen([sys.executable, "-c", script, *words], stdout=subprocess.PIPE, text=True, env=environment)


class Other:
    """A pipeline run in a process of its own, which sleeps until it is killed."""

    def __init__(self, home: Home, how: str) -> None:
        self.process = python(RUNS, how)
        assert self.process.stdout is not None
        self.id = self.process.stdout.readline().strip()
        self.path: Path = home.runs / f"{self.id}.json"

    @property
    def record(self) -> dict[str, Any]:
        return dict(orjson.loads(self.path.read_bytes()))

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        assert self.process.wait() == -9


@pytest.fixture
def other(empty_home: Home) -> Iterator[Other]:
    """Give a run that has not told MLflow anything."""
    started = Other(empty_home, "is silent")
    yield started
    started.process.kill()
    started.process.wait()


@pytest.fixture
def telling(home: Home) -> Iterator[Other]:
    """Give a run that has opened its MLflow run and told one point."""
    started = Other(home, "tells")
    yield started
    started.process.kill()
    started.process.wait()


def after(*words: str) -> str:
    """Run to its end in a process of its own; give what it printed."""
    out, _ = python(OPENS, *words).communicate(timeout=120)
    return out.strip()


def test_a_run_is_recorded_as_running_while_it_runs(other: Other) -> None:
    assert (other.record["state"], other.record["mlflow_status"]) == ("running", None)


def test_a_run_that_was_killed_is_recorded_as_killed_by_the_next_without_importing_mlflow(other: Other) -> None:
    other.kill()
    assert other.record["state"] == "running"
    assert after() == "done None []"
    assert (other.record["state"], other.record["error"]) == ("killed", "the process was killed")
    assert list(other.path.parent.glob(".*")) == []


def test_a_run_that_lives_is_left_alone(other: Other, settings: PipelineConfig) -> None:
    with pipeline_run(settings):
        assert other.record["state"] == "running"
    other.kill()
    with pipeline_run(settings):
        assert other.record["state"] == "killed"


def test_a_record_that_is_no_json_stops_nothing(other: Other, settings: PipelineConfig) -> None:
    (other.path.parent / "20200101T000000-abcdef.json").write_text("half a rec")
    other.kill()
    with pipeline_run(settings) as run:
        assert (other.record["state"], run.warnings) == ("killed", [])


@pytest.mark.flow
def test_the_mlflow_run_of_a_killed_process_is_closed_as_killed_by_the_next_run(
    telling: Other, client: Any, settings: PipelineConfig
) -> None:
    mlflow_run = telling.record["mlflow_run"]
    telling.kill()
    assert client.get_run(mlflow_run).info.status == "RUNNING"
    with pipeline_run(settings):
        pass
    held = client.get_run(mlflow_run)
    assert held.info.status == "KILLED"
    assert held.data.tags["mlflow.note.content"].startswith("The process was killed.")
    assert (telling.record["state"], telling.record["mlflow_status"]) == ("killed", "KILLED")


@pytest.mark.flow
def test_a_killed_run_is_closed_later_where_mlflow_is_down_at_first(
    telling: Other, client: Any, settings: PipelineConfig, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    telling.kill()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pipeline_run(settings) as run:
        assert len(run.warnings) == 1
    assert (telling.record["state"], telling.record["mlflow_status"]) == ("killed", "RUNNING")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pipeline_run(settings):
        pass
    assert client.get_run(telling.record["mlflow_run"]).info.status == "KILLED"


@pytest.mark.flow
def test_a_failure_that_mlflow_did_not_hear_of_is_told_by_the_next_run(
    home: Home, client: Any, settings: PipelineConfig, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RuntimeError), pipeline_run(settings) as run:
        tracking = run.tracking()
        assert isinstance(tracking, Tracking)
        tracking.client = type(tracking.client)(f"http://127.0.0.1:{closed_port}")
        raise RuntimeError("out of memory")
    assert client.get_run(run.mlflow_run).info.status == "RUNNING"
    with pipeline_run(settings):
        pass
    assert client.get_run(run.mlflow_run).info.status == "FAILED"


@pytest.mark.flow
def test_a_run_that_holds_everything_and_was_told_imports_neither_mlflow_nor_torch(
    home: Home, go: Go, evaluation: Evaluation
) -> None:
    go()
    assert after(evaluation.model_dump_json()) == "done better []"
