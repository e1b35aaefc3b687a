"""Tell MLflow what a run did, so that a model can be followed back to its data and forth to its scores.

A tracking server that is down never stops or changes a training: what could not be told is told at the end of the run,
from what the stages have sealed, or by the next run.

By default MLflow's client tries a request 8 times, which takes 247 s where nothing listens (measured, 3.17.2), and it
waits 120 s for each answer. Here it gives up after 4 s where nothing listens, and after about 65 s where a server takes
the connection and says nothing. A database that is named without a server (`postgresql://…`) has MLflow's own ten
tries, 101 s by its source. The caller waits between attempts so that they cost a twentieth of the time at most.
"""

import contextlib
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from tunemill.home import Home

RUN_TAG = "tunemill.run"
NOTE_TAG = "mlflow.note.content"
"""What MLflow shows as the description: markdown."""
DIGEST_LENGTH = 36
"""MLflow takes at most 36 characters of a dataset's digest."""
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""Tries after the first, and seconds that each waits for an answer; what the environment says goes before it."""

Point = tuple[str, float, int]
"""Name, value and step of a metric."""


def connect(home: Home) -> Any:
    """Give MLflow's client for this home; nothing is asked yet, so it cannot fail where MLflow is down."""
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    # Each try would be told on the terminal; the run warns once.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    from mlflow import MlflowClient, set_tracking_uri

    set_tracking_uri(home.tracking_uri)
    return MlflowClient(home.tracking_uri)


class Tracking:
    """One MLflow run for one pipeline run; found again by its tag, so that a retry opens no second one."""

    def __init__(self, home: Home, experiment: str, run: str, config: Mapping[str, Any], named: str = "") -> None:
        """Open the run and log the configuration, so that a run that dies has said what it was asked."""
        self.client = connect(home)
        self.experiment = self._experiment(home, experiment)
        self.told: set[tuple[str, int]] = set()
        self.unsure = False
        """Whether MLflow may hold points that are not in `told`."""
        self.source = {"mlflow.source.name": named or "tunemill"}
        self.run_id = self._run(run)
        self._parameters(config)

    def _experiment(self, home: Home, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is None:
            local = home.tracking_uri.startswith("sqlite:")
            with contextlib.suppress(MlflowException):  # another process was first; or the next line fails as well
                self.client.create_experiment(name, home.mlflow_artifacts.as_uri() if local else None)
            found = self.client.get_experiment_by_name(name)
        return str(found.experiment_id)

    def _run(self, run: str) -> str:
        from mlflow.tracking.context.registry import resolve_tags

        found = self.client.search_runs([self.experiment], f"tags.`{RUN_TAG}` = '{run}'", max_results=1)
        if found:
            self.unsure = True
            return str(found[0].info.run_id)
        tags = resolve_tags({RUN_TAG: run, **self.source})
        return str(self.client.create_run(self.experiment, run_name=run, tags=tags).info.run_id)

    def tags(self, tags: Mapping[str, str]) -> None:
        """Set tags on the run."""
        from mlflow.entities import RunTag

        self.client.log_batch(self.run_id, tags=[RunTag(k, v) for k, v in tags.items()])

    def _parameters(self, settings: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        flat = [Param(name, value) for name, value in flattened(settings).items()]
        for start in range(0, len(flat), 100):
            self.client.log_batch(self.run_id, params=flat[start : start + 100])

    def metrics(self, points: Sequence[Point]) -> None:
        """Log points; one that was told before is not told twice, also where MLflow took it and its answer was lost.

        Of two values for one step in `points` the later counts: a training that went on from a checkpoint did the
        steps after it again.
        """
        from mlflow.entities import Metric

        if self.unsure:
            self._recall()
        latest = {(name, step): float(value) for name, value, step in points if (name, step) not in self.told}
        now = int(time.time() * 1000)
        new = [Metric(name, value, now, step) for (name, step), value in latest.items()]
        self.unsure = True
        for start in range(0, len(new), 1000):
            self.client.log_batch(self.run_id, metrics=new[start : start + 1000])
        self.told.update(latest)
        self.unsure = False

    def _recall(self) -> None:
        names = self.client.get_run(self.run_id).data.metrics
        for name in (name for name in names if not name.startswith("system/")):
            self.told.update((name, point.step) for point in self.client.get_metric_history(self.run_id, name))

    def dataset(self, name: str, digest: str, source: Path, context: str, rows: int) -> None:
        """Log one dataset as an input of the run."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        place, profile = orjson.dumps({"uri": str(source)}).decode(), orjson.dumps({"num_rows": rows}).decode()
        entity = Dataset(name, digest[:DIGEST_LENGTH], "local", place, profile=profile)
        self.client.log_inputs(self.run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", context)])])

    def files(self, paths: Sequence[Path], under: str) -> None:
        """Log files as artifacts of the run, in one folder."""
        for path in paths:
            self.client.log_artifact(self.run_id, str(path), under)

    def model(self, name: str, folder: Path, parameters: Mapping[str, Any], note: str) -> str:
        """Log an adapter's folder as a model that this run put out; return the model's id.

        A model of this name that is READY is not sent again: it becomes an input of this run, which scored it anew.
        """
        from mlflow.entities import LoggedModelInput, LoggedModelOutput
        from mlflow.tracking.context.registry import resolve_tags

        same = self.client.search_logged_models([self.experiment], f"name = '{name}'")
        if ready := next((model for model in same if model.status == "READY"), None):
            self.client.log_inputs(self.run_id, models=[LoggedModelInput(ready.model_id)])
            return str(ready.model_id)
        tags, params = resolve_tags({NOTE_TAG: note, **self.source}), flattened(parameters)
        made = self.client.create_logged_model(self.experiment, name, self.run_id, tags, params, "adapter")
        self.client.log_model_artifacts(made.model_id, str(folder))
        self.client.finalize_logged_model(made.model_id, "READY")
        self.client.log_outputs(self.run_id, [LoggedModelOutput(made.model_id, 0)])
        return str(made.model_id)

    def scores(self, model: str, scores: Mapping[str, float], dataset: str, digest: str) -> None:
        """Log scores on the run and on the model, each with the dataset that it was measured on."""
        from mlflow.entities import Metric

        now, short = int(time.time() * 1000), digest[:DIGEST_LENGTH]
        points = [Metric(k, v, now, 0, model, dataset, short, self.run_id) for k, v in scores.items()]
        self.client.log_batch(self.run_id, metrics=points)

    def finish(self, status: str) -> None:
        """Close the run as FINISHED or FAILED."""
        self.client.set_terminated(self.run_id, status)

    @contextlib.contextmanager
    def system_metrics(self) -> Iterator[None]:
        """Sample processor, memory, disk and GPU into the run while the block lasts."""
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(self.run_id, sampling_interval=5, resume_logging=True)
        monitor.start()
        try:
            yield
        finally:
            monitor.finish()


def close(home: Home, experiment: str, run: str, status: str, note: str) -> None:
    """Close the MLflow run of a pipeline run that no longer lives, at the time it was last heard of."""
    client = connect(home)
    if not (found := client.get_experiment_by_name(experiment)):
        return
    wanted = f"tags.`{RUN_TAG}` = '{run}' and attributes.status = 'RUNNING'"
    for left in client.search_runs([found.experiment_id], wanted):
        heard = [metric.timestamp for metric in left.data._metric_objs]
        client.set_tag(left.info.run_id, NOTE_TAG, note)
        client.set_terminated(left.info.run_id, status, max(heard, default=None))


def flattened(settings: Mapping[str, Any], under: str = "") -> dict[str, str]:
    """Join nested names with dots; leave out what is None; cut a value to the 6,000 characters that MLflow takes."""
    flat: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{under}{name}.")
        elif value is not None:
            flat[f"{under}{name}"] = str(value)[:6000]
    return flat


def address(home: Home) -> str:
    """Give MLflow's address without the name and password that it may hold, so that it can be shown."""
    return re.sub(r"//[^/@]*@", "//", home.tracking_uri)


def reason(error: BaseException) -> str:
    """Give in a few words what lies under a client's layers: `Connection refused` and not four nested names."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    last = str(error).rpartition("Caused by ")[2].partition("\n")[0]
    return re.sub(r"//[^/@]*@", "//", f"{type(error).__name__}: {last}"[:300])
