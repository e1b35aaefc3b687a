"""What a run loses where MLflow does not answer: nothing but a few seconds, and one warning says so."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tasks.run import Run, pipeline_run
from tunemill.artifacts import Evaluation
from tunemill.config import PipelineConfig
from tunemill.home import Home

pytestmark = pytest.mark.flow
Go = Callable[..., Run]


class Refusing:
    """A server that takes each connection, hangs up and counts."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listening.getsockname()[1]
        self.calls = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            self.calls += 1
            connection.close()


@pytest.fixture
def refusing() -> Iterator[Refusing]:
    server = Refusing()
    yield server
    server.listening.close()


@pytest.fixture
def down(empty_home: Home, closed_port: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name an MLflow where nothing listens; give its address."""
    uri = f"http://127.0.0.1:{closed_port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


def test_a_run_without_mlflow_comes_to_its_verdict_within_20_seconds_and_warns_once(
    down: str, go: Go, caplog: pytest.LogCaptureFixture
) -> None:
    begun = time.monotonic()
    run = go(train=True)
    assert time.monotonic() - begun < 20
    assert (run.state, run.verdict, run.mlflow_run) == ("done", "better", None)
    assert [record for record in caplog.records if record.name.startswith(("urllib3", "mlflow"))] == []
    assert run.warnings == [
        f"MLflow at {down} does not take what it is told (Connection refused). The run goes on; MLflow is told all of "
        "it at the end of this run, or by the next one"
    ]


def test_mlflow_is_asked_once_in_400_steps_and_once_at_the_end(
    refusing: Refusing, empty_home: Home, monkeypatch: pytest.MonkeyPatch, go: Go
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{refusing.port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert len(go(train=True).warnings) == 1
    assert refusing.calls == 2


def test_an_attempt_that_took_10_seconds_buys_200_seconds_of_quiet(
    down: str, settings: PipelineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pipeline_run(settings) as run:
        clock = iter([1000.0, 1010.0])
        with monkeypatch.context() as patch:
            patch.setattr("tasks.run.time.monotonic", lambda: next(clock))
            with run.unless_down():
                raise ConnectionError
        assert run._quiet_until == 1210.0


def test_the_next_run_tells_what_the_outage_kept_from_mlflow(
    home: Home, client: Any, closed_port: int, monkeypatch: pytest.MonkeyPatch, go: Go, evaluation: Evaluation
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert go().mlflow_run is None
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    run = go(cached=True)
    held = client.get_run(run.mlflow_run)
    assert (held.info.status, held.data.tags["tunemill.run"], run.warnings) == ("FINISHED", run.id, [])
    assert len(client.get_metric_history(run.mlflow_run, "train/loss")) == 3
    assert go(cached=True).mlflow_run is None


def test_what_is_lost_in_the_middle_of_a_training_is_told_at_its_end(
    home: Home, client: Any, settings: PipelineConfig, go: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pipeline_run(settings) as run:
        tracking = run.tracking()
        assert tracking is not None
        answering = tracking.client
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
            tracking.client = type(answering)(f"http://127.0.0.1:{bound.getsockname()[1]}")
            run.tell([("train/loss", 2.0, 1)])
        tracking.client = answering
        run.tell([("train/loss", 1.0, 2)])
        assert client.get_metric_history(run.mlflow_run, "train/loss") == []
        now = run.tracking(now=True)
        assert now is not None
        now.metrics([("train/loss", 2.0, 1), ("train/loss", 1.0, 2)])
        assert len(client.get_metric_history(run.mlflow_run, "train/loss")) == 2
        assert len(run.warnings) == 1
