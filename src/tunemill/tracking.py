"""Tell MLflow what a run did, so that a model can be followed back to its data and forth to its scores.

A tracking server that is down never stops or changes a training: what could not be told is told at the end of the run,
from what the stages have sealed.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunemill.home import Home

RUN_TAG = "tunemill.run"
DIGEST_LENGTH = 36
"""MLflow takes at most 36 characters of a dataset's digest."""


class Tracking:
    """One MLflow run for one pipeline run; found again by its tag, so that a retry opens no second one."""

    def __init__(self, home: Home, experiment: str, run: str) -> None:
        from mlflow import MlflowClient, set_tracking_uri

        set_tracking_uri(home.tracking_uri)
        self.client = MlflowClient(home.tracking_uri)
        self.experiment = self._experiment(home, experiment)
        self.run_id = self._run(run)
        self.told: set[tuple[str, int]] = set()

    def _experiment(self, home: Home, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found:
            return str(found.experiment_id)
        local = home.tracking_uri.startswith("sqlite:")
        return str(self.client.create_experiment(name, home.mlflow_artifacts.as_uri() if local else None))

    def _run(self, run: str) -> str:
        found = self.client.search_runs([self.experiment], f"tags.`{RUN_TAG}` = '{run}'", max_results=1)
        if found:
            return str(found[0].info.run_id)
        return str(self.client.create_run(self.experiment, run_name=run, tags={RUN_TAG: run}).info.run_id)

    def tags(self, tags: Mapping[str, str]) -> None:
        """Set tags on the run."""
        from mlflow.entities import RunTag

        self.client.log_batch(self.run_id, tags=[RunTag(k, v) for k, v in tags.items()])

    def parameters(self, settings: Mapping[str, Any]) -> None:
        """Log the configuration, nested names joined with dots; MLflow takes 100 at once."""
        from mlflow.entities import Param

        flat = [Param(name, str(value)[:6000]) for name, value in _flat(settings) if value is not None]
        for start in range(0, len(flat), 100):
            self.client.log_batch(self.run_id, params=flat[start : start + 100])

    def metrics(self, points: Sequence[tuple[str, float, int]]) -> None:
        """Log (name, value, step) in one batch; a point that was told before is not told twice."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        new = [point for point in points if point[:1] + point[2:] not in self.told]
        for start in range(0, len(new), 1000):
            batch = new[start : start + 1000]
            self.client.log_batch(self.run_id, metrics=[Metric(k, float(v), now, step) for k, v, step in batch])
            self.told.update((k, step) for k, _, step in batch)

    def dataset(self, name: str, digest: str, source: Path, context: str) -> Any:
        """Log one dataset as an input of the run; return MLflow's dataset."""
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.data.sources import LocalArtifactDatasetSource
        from mlflow.entities import DatasetInput, InputTag

        data = MetaDataset(LocalArtifactDatasetSource(str(source)), name=name, digest=digest[:DIGEST_LENGTH])
        entity = data._to_mlflow_entity()
        self.client.log_inputs(self.run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", context)])])
        return entity

    def folder(self, folder: Path, under: str) -> None:
        """Log the files of a folder as artifacts of the run."""
        self.client.log_artifacts(self.run_id, str(folder), under)

    def model(self, name: str, folder: Path, parameters: Mapping[str, str], metrics: Mapping[str, float]) -> str:
        """Log an adapter's folder as a model that this run put out; return the model's id."""
        from mlflow.entities import LoggedModelOutput, Metric

        model = self.client.create_logged_model(self.experiment, name, self.run_id, params=dict(parameters))
        self.client.log_model_artifacts(model.model_id, str(folder))
        self.client.finalize_logged_model(model.model_id, "READY")
        self.client.log_outputs(self.run_id, [LoggedModelOutput(model.model_id, 0)])
        now = int(time.time() * 1000)
        points = [Metric(k, v, now, 0, model_id=model.model_id, run_id=self.run_id) for k, v in metrics.items()]
        self.client.log_batch(self.run_id, metrics=points)
        return str(model.model_id)

    def finish(self, state: str) -> None:
        """Close the run as FINISHED or FAILED."""
        self.client.set_terminated(self.run_id, state)

    @contextlib.contextmanager
    def system_metrics(self) -> Iterator[None]:
        """Sample processor, memory, disk and GPU into the run while the block lasts."""
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(self.run_id, sampling_interval=5)
        monitor.start()
        try:
            yield
        finally:
            monitor.finish()


def _flat(settings: Mapping[str, Any], under: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{under}{name}.")
        else:
            yield f"{under}{name}", value
