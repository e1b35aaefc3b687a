"""Know the pipeline run that stages belong to: what was held or made, how long it took, and who is told.

A run leaves `runs/<id>.json`. Stages find it through `Run.current()`; outside a run they find one that records nothing.
"""

import contextlib
import datetime
import secrets
import sys
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import orjson
from pydantic import BaseModel, Field, PrivateAttr

from tunemill.artifacts import Artifact
from tunemill.config import PipelineConfig
from tunemill.home import Home
from tunemill.store import Store, replace
from tunemill.tracking import Tracking


class StageRecord(BaseModel):
    """One stage of one run."""

    name: str
    key: str
    digest: str
    cached: bool
    seconds: float
    counts: dict[str, int]

    @classmethod
    def of(cls, artifact: Artifact, cached: bool, seconds: float) -> "StageRecord":
        """Record an artifact that a run held or made."""
        return cls(
            name=artifact.stage,
            key=artifact.key,
            digest=artifact.digest,
            cached=cached,
            seconds=round(seconds, 3),
            counts=artifact.counts,
        )


class Listener:
    """Hear what a run does; the command line shows it, a worker's log prints it."""

    def began(self, stage: str, held: bool) -> None:
        """Hear that a stage begins, and whether its artifact is held."""

    def ended(self, record: StageRecord) -> None:
        """Hear that a stage ended."""

    def progress(self, stage: str, done: float, total: float, text: str) -> None:
        """Hear how far a long stage is."""

    def warn(self, message: str) -> None:
        """Hear of something that a person should know and that stops nothing."""


class Run(BaseModel):
    """What one pipeline run did; written to `runs/<id>.json` as it goes."""

    id: str
    config: dict[str, Any]
    named: str = ""
    """File that the configuration was loaded from, as it was asked for."""
    state: str = "running"
    started: str = ""
    seconds: float = 0.0
    verdict: str | None = None
    stages: list[StageRecord] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    error: str | None = None
    report: str | None = None
    exports: dict[str, str] = Field(default_factory=dict)
    mlflow_run: str | None = None
    prefect_flow_run: str | None = None
    _tracking: Tracking | None = PrivateAttr(default=None)
    _settings: PipelineConfig | None = PrivateAttr(default=None)

    @property
    def settings(self) -> PipelineConfig:
        """The configuration of this run."""
        assert self._settings is not None, "only a run that was opened has settings"
        return self._settings

    @staticmethod
    def current() -> "Run":
        """Give the run that this code belongs to, or one that nobody reads."""
        return _current.get() or Run(id="none", config={})

    @property
    def made(self) -> list[StageRecord]:
        """The stages that were not held."""
        return [record for record in self.stages if not record.cached]

    def began(self, stage: str, held: bool) -> None:
        """Tell the listener that a stage begins."""
        listener().began(stage, held)

    def ended(self, record: StageRecord) -> None:
        """Record a stage and tell the listener."""
        self.stages.append(record)
        listener().ended(record)

    def warn(self, message: str) -> None:
        """Record a warning once and tell the listener."""
        if message not in self.warnings:
            self.warnings.append(message)
            listener().warn(message)

    def tracking(self) -> Tracking | None:
        """Give this run's MLflow run, opened when first asked for; None where MLflow does not answer or none runs."""
        if self._tracking is None and self.config:
            with self.unless_down("opened no run"):
                self._tracking = Tracking(Home.find(), self.config["name"], self.id)
                self.mlflow_run = self._tracking.run_id
        return self._tracking

    def tell(self, points: list[tuple[str, float, int]]) -> None:
        """Send metrics to MLflow if it answers; what is lost here is told again when the run is published."""
        if points and (tracking := self.tracking()):
            with self.unless_down(f"took none of {len(points)} metrics"):
                tracking.metrics(points)

    @contextlib.contextmanager
    def unless_down(self, what: str) -> Iterator[None]:
        """Turn any fault of the tracking server inside the block into a warning."""
        try:
            yield
        except Exception as error:  # any fault of a tracking server must leave the training as it is
            self.warn(f"MLflow at {Home.find().tracking_uri} {what} ({type(error).__name__}: {error})")

    def summary(self) -> dict[str, Any]:
        """Give what `tunemill run --json` prints."""
        stages = [record.model_dump(include={"name", "key", "cached", "seconds", "counts"}) for record in self.stages]
        return {
            "verdict": self.verdict,
            "stages": stages,
            "report": self.report,
            "exports": self.exports,
            "mlflow_run": self.mlflow_run,
            "run": self.id,
            "warnings": self.warnings,
        }


_SILENT = Listener()
_current: ContextVar[Run | None] = ContextVar("tunemill_run", default=None)
_listener: ContextVar[Listener] = ContextVar("tunemill_listener", default=_SILENT)


def listener() -> Listener:
    """Give who listens to this run."""
    return _listener.get()


@contextlib.contextmanager
def listening(to: Listener) -> Iterator[None]:
    """Let `to` hear the runs inside this block."""
    token = _listener.set(to)
    try:
        yield
    finally:
        _listener.reset(token)


@contextlib.contextmanager
def pipeline_run(settings: PipelineConfig, named: str = "") -> Iterator[Run]:
    """Open a run: state folders made, leftovers of dead processes swept, the record written whatever happens."""
    home = Home.find()
    home.enter()
    Store(home.store).sweep()
    now = datetime.datetime.now(datetime.UTC)
    run = Run(
        id=f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}",
        config=settings.model_dump(mode="json", by_alias=True),
        named=named,
        started=now.isoformat(timespec="seconds"),
        prefect_flow_run=_prefect_flow_run(),
    )
    run._settings = settings
    begun = time.monotonic()
    token = _current.set(run)
    try:
        yield run
        run.state = "done"
    except BaseException as error:
        run.state, run.error = "failed", f"{type(error).__name__}: {error}"
        if run._tracking:
            with run.unless_down("could not close the run"):
                run._tracking.finish("FAILED")
        raise
    finally:
        _current.reset(token)
        run.seconds = round(time.monotonic() - begun, 3)
        replace(home.runs / f"{run.id}.json", orjson.dumps(run.model_dump(), option=orjson.OPT_INDENT_2))


def _prefect_flow_run() -> str | None:
    """Give the id of the Prefect flow run that this code runs in; None outside, or where Prefect is not loaded."""
    if "prefect" not in sys.modules:
        return None
    from prefect.runtime import flow_run

    return str(flow_run.id) if flow_run.id else None
