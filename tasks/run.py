"""Know the pipeline run that stages belong to: what was held or made, how long it took, and who is told.

A run writes `runs/<id>.json` when it opens, after each stage and when it ends. Stages find it through `Run.current()`;
outside a run they find one that records nothing.
"""

import contextlib
import datetime
import secrets
import sys
import time
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, Field, PrivateAttr

from tasks.killed import close_dead_runs, living
from tunemill import tracking
from tunemill.artifacts import Artifact
from tunemill.config import PipelineConfig
from tunemill.files import replace
from tunemill.home import PROJECT, Home
from tunemill.store import Store
from tunemill.tracking import Point, Tracking

QUIET_AT_LEAST = 60
"""Seconds without MLflow after it failed."""
QUIET_PER_SECOND = 20
"""Seconds without MLflow for each second that the failure took: asking again costs a twentieth of the time at most."""


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
    page: str | None = None
    """The data page: what became of every row between the raw files and training."""
    gate: str | None = None
    """PROMOTE, REJECT, CANNOT_TELL or INVALID; `verdict` is the evaluation's own."""
    reasons: list[str] = Field(default_factory=list)
    exports: dict[str, str] = Field(default_factory=dict)
    serve: list[str] = Field(default_factory=list)
    """Commands that serve what was exported."""
    mlflow_run: str | None = None
    mlflow_status: str | None = None
    """What MLflow was last told: RUNNING from before it opens the run, FINISHED when it has all of it."""
    prefect_flow_run: str | None = None
    _record: Path | None = PrivateAttr(default=None)
    _tracking: Tracking | None = PrivateAttr(default=None)
    _quiet_until: float = PrivateAttr(default=0.0)
    _missed: set[str] = PrivateAttr(default_factory=set)
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
        """Record a stage, once though two flows ask for it, and tell the listener."""
        if any((known.name, known.key) == (record.name, record.key) for known in self.stages):
            return
        self.stages.append(record)
        self.write()
        listener().ended(record)

    def warn(self, message: str) -> None:
        """Record a warning once and tell the listener."""
        if message not in self.warnings:
            self.warnings.append(message)
            listener().warn(message)

    def tracking(self, now: bool = False) -> Tracking | None:
        """Give this run's MLflow run, opened when first asked for.

        None where no run is open, where MLflow fails, and for a while after it failed unless it is needed `now`.
        """
        if not self.config or (time.monotonic() < self._quiet_until and not now):
            return None
        if self._tracking is None:
            with self.unless_down():
                self.mlflow_status = "RUNNING"
                self.write()
                self._tracking = Tracking(Home.find(), self.config["name"], self.id, self.config, _shown(self.named))
                self.mlflow_run = self._tracking.run_id
                self.write()
        return self._tracking

    def tell(self, points: list[Point]) -> None:
        """Send metrics to MLflow if it answers; what is lost here is told again when the run is published."""
        if points and (open_run := self.tracking()):
            with self.unless_down():
                open_run.metrics(points)

    def close_tracking(self, status: str) -> None:
        """Tell MLflow how the run ended; where that fails, the next run tells it."""
        if self._tracking:
            self._tracking.finish(status)
            self.mlflow_status = status

    def tell_failure(self) -> None:
        """Tell MLflow why the run failed; what it has all of stays FINISHED, as its scores are true all the same."""
        if self._tracking:
            self._tracking.tags({"tunemill.error": (self.error or "").partition("\n")[0]})
            if self.mlflow_status != "FINISHED":
                self.close_tracking("FAILED")

    @contextlib.contextmanager
    def unless_down(self, what: str = "does not take what it is told") -> Iterator[None]:
        """Turn a fault of MLflow into a warning, one for each `what`, and leave MLflow alone for a while."""
        begun = time.monotonic()
        try:
            yield
        except Exception as error:  # any fault of a tracking server must leave the training as it is
            now = time.monotonic()
            self._quiet_until = now + max(QUIET_AT_LEAST, QUIET_PER_SECOND * (now - begun))
            if what in self._missed:
                return
            self._missed.add(what)
            self.warn(
                f"MLflow at {tracking.address(Home.find())} {what} ({tracking.reason(error)}). "
                "The run goes on; MLflow is told all of it at the end of this run, or by the next one"
            )

    def write(self) -> None:
        """Write the record, old or new and never half."""
        if self._record:
            replace(self._record, orjson.dumps(self.model_dump(), option=orjson.OPT_INDENT_2))

    def summary(self) -> dict[str, Any]:
        """Give what `tunemill run --json` prints."""
        stages = [record.model_dump(include={"name", "key", "cached", "seconds", "counts"}) for record in self.stages]
        return {
            "verdict": self.verdict,
            "gate": self.gate,
            "reasons": self.reasons,
            "stages": stages,
            "report": self.report,
            "page": self.page,
            "exports": self.exports,
            "serve": self.serve,
            "mlflow_run": self.mlflow_run,
            "run": self.id,
            "warnings": self.warnings,
        }


SILENT = Listener()
_current: ContextVar[Run | None] = ContextVar("tunemill_run", default=None)
_listener: ContextVar[Listener] = ContextVar("tunemill_listener", default=SILENT)


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
    run._settings, run._record = settings, home.runs / f"{run.id}.json"
    token = _current.set(run)
    try:
        with living(run._record):
            yield from _recorded(run, home)
    finally:
        _current.reset(token)


def _recorded(run: Run, home: Home) -> Iterator[Run]:
    begun = time.monotonic()
    run.write()
    try:
        with run.unless_down():
            close_dead_runs(home)
        yield run
        run.state = "done"
    except BaseException as error:
        run.state, run.error = "failed", f"{type(error).__name__}: {error}"
        with run.unless_down():
            run.tell_failure()
        raise
    finally:
        run.seconds = round(time.monotonic() - begun, 3)
        run.write()


def _shown(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(PROJECT)) if path.is_relative_to(PROJECT) else file


def _prefect_flow_run() -> str | None:
    """Give the id of the Prefect flow run that this code runs in; None outside, or where Prefect is not loaded."""
    if "prefect" not in sys.modules:
        return None
    from prefect.runtime import flow_run

    return str(flow_run.id) if flow_run.id else None
